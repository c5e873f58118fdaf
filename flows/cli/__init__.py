"""The `labwright` command.

What a user got wrong is said in one line for each problem, without a traceback. What we got wrong
is one line as well, and a traceback in a file.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Entry point: ends with 0 (done), 1 (failed, or a deliverable unmet), 2 (bad input)."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect and others send usage data otherwise
    from flows.cli.app import app
    from flows.cli.errors import explain

    try:
        app(prog_name="labwright")
    except Exception as error:  # noqa: BLE001  (the outermost frame: everything is explained here)
        sys.exit(explain(error))
    finally:
        gc.freeze()  # at its end the interpreter would look at a million objects for cycles: 0.3 s
