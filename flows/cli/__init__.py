"""The `labwright` command.

What a user got wrong is said in one line for each problem, without a traceback. What we got wrong
is one line as well, and a traceback in a file.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: ends with 0 (done), 1 (failed, or a deliverable unmet), 2 (bad input)."""
    from flows.cli.app import app
    from flows.cli.errors import explain

    try:
        app(prog_name="labwright")
    except Exception as error:  # noqa: BLE001  (the outermost frame: everything is explained here)
        sys.exit(explain(error))
