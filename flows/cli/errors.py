"""What ends a command, in words on stderr; returns the exit status."""

from __future__ import annotations

import os
import re
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import LabwrightError, SpecError
from tasks.scrubbing import Scrubber, own_secrets
from tasks.settings import settings


def explain(error: Exception) -> int:
    """One line for each problem of a user's; for a bug of ours, the file with its traceback."""
    if isinstance(error, SpecError):
        for problem in error.problems:
            print(f"error: {from_here(str(problem))}", file=sys.stderr)
        return error.exit_status
    if isinstance(error, LabwrightError):
        print("\n  ".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return error.exit_status
    words = f"error: {type(error).__name__}: {error} (this is a bug of labwright's)"
    path = _keep(error)
    print(f"{words}; traceback: {path}" if path else words, file=sys.stderr)
    return 1


def from_here(text: str) -> str:
    """Paths below the working directory as one would type them there."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return text
    if here == here.parent:
        return text
    return re.sub(rf"(?<![\w.~/-]){re.escape(str(here))}/", "", text)


def _keep(error: Exception) -> Path | None:
    """Write the traceback down; where that fails, it goes to stderr."""
    scrubber = Scrubber(own_secrets())
    text = scrubber.text("".join(traceback.format_exception(error)))
    try:
        folder = settings().home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        path = folder / f"crash-{now}-{os.getpid()}.txt"
        path.write_text(f"{scrubber.command_line(sys.argv)}\n\n{text}", encoding="utf-8")
    except (OSError, LabwrightError):
        print(text, file=sys.stderr)
        return None
    return path
