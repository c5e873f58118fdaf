"""metrics.jsonl as its readers see it: the newest line for progress, all lines for curves.

for line in read_metrics(path):
    line["step"], line["time_s"], line.get("loss")
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_UNREAD_BYTES = 1 << 20  # a body that writes more between two looks loses progress, not lines


class MetricsTail:
    """Reads what was appended since the last look; a line still being written waits."""

    def __init__(self, path: Path):
        self._path = path
        self._offset = 0

    def newest(self) -> dict[str, Any] | None:
        """The last complete line that is new; None when there is none."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                self._offset = max(self._offset, size - MAX_UNREAD_BYTES)
                file.seek(self._offset)
                appended = file.read(MAX_UNREAD_BYTES)
        except FileNotFoundError:
            return None
        complete = appended.rfind(b"\n") + 1
        if not complete:
            return None
        self._offset += complete
        return _parse(appended[:complete].rstrip(b"\n").rsplit(b"\n", 1)[-1])


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every well-formed line; a body may print garbage into its own metrics."""
    lines = (_parse(line) for line in path.read_bytes().splitlines())
    return [line for line in lines if line is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line with a step; a number of steps that is none is left out."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("step"), int):
        return None
    num_steps = parsed.get("num_steps", 1)
    if not isinstance(num_steps, int | float) or not num_steps > 0:
        del parsed["num_steps"]
    return parsed
