"""What pip is at, as its log says it: the one thing that is known while an installation goes on.

what_pip_does(log, from_byte=0)  # "torch-2.13.0-cp311-cp311-linux_x86_64.whl"
last_lines(log)  # when it failed
"""

from __future__ import annotations

import re
from pathlib import Path

STAGE = re.compile(
    r"\s*(?:(?:Collecting|Downloading|Using cached|Building wheel for) (\S+)|Installing collected)"
)


def what_pip_does(log: Path, from_byte: int) -> str:
    """The package that was named last, or that all are being installed; else nothing."""
    with log.open("rb") as file:
        file.seek(from_byte)
        lines = file.read().decode(errors="replace").splitlines()
    found = next((match for line in reversed(lines) if (match := STAGE.match(line))), None)
    if found is None:
        return ""
    return found[1].removesuffix(".metadata") if found[1] else "installing what it has"


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, without what pip says about folders that are not there."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [
        line for line in lines if "is ignored: it is neither a file nor a directory" not in line
    ]
    return "\n".join(f"  | {line}" for line in told[-count:])
