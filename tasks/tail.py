"""Reads a text file that somebody else is writing, line by line, at a bounded price.

    with LineTail(logs / "stdout.txt", print) as tail:
        tail.advance()    # from time to time: hands over the lines that are complete by now
        tail.finish()     # at the end: the last line too, though nothing ends it

A line ends with \\n or \\r, so that each state of a progress bar is one. Empty lines are left out,
bytes that are not UTF-8 become U+FFFD, long lines are cut, and a writer that is too fast is not
followed: a line says how much was passed over. The file itself has everything.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable
from pathlib import Path

MAX_LINE_CHARS = 4096
MAX_ADVANCE_BYTES = 1 << 18  # also what one call costs the event loop: a few milliseconds


class LineTail:
    """Follows `path`, which must exist, and calls `on_line(text)` for each line."""

    def __init__(self, path: Path, on_line: Callable[[str], object]):
        self._path = path
        self._on_line = on_line
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._position_bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""  # the beginning of a line that has not ended yet
        self._num_cut_chars = 0

    def __enter__(self) -> LineTail:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def advance(self) -> None:
        """Hand over what was written since the last call."""
        waiting_bytes = os.fstat(self._file).st_size - self._position_bytes
        if waiting_bytes > MAX_ADVANCE_BYTES:
            self._pass_over(waiting_bytes - MAX_ADVANCE_BYTES)
        self._feed(os.pread(self._file, MAX_ADVANCE_BYTES, self._position_bytes))

    def finish(self) -> None:
        """Hand over what is left; nothing more will be written."""
        self.advance()
        self._text(self._decoder.decode(b"", final=True))
        self._end_line()

    def _pass_over(self, num_bytes: int) -> None:
        self._end_line()
        self._decoder.reset()
        self._position_bytes += num_bytes
        self._on_line(f"[{num_bytes} bytes are not shown here; they are in {self._path}]")

    def _feed(self, data: bytes) -> None:
        self._position_bytes += len(data)
        self._text(self._decoder.decode(data))

    def _text(self, text: str) -> None:
        *ended, begun = re.split(r"[\r\n]", text)
        for piece in ended:
            self._append(piece)
            self._end_line()
        self._append(begun)

    def _append(self, piece: str) -> None:
        kept = piece[: MAX_LINE_CHARS - len(self._line)]
        self._line += kept
        self._num_cut_chars += len(piece) - len(kept)

    def _end_line(self) -> None:
        cut = f" [… {self._num_cut_chars} characters more]" if self._num_cut_chars else ""
        if self._line:
            self._on_line(self._line + cut)
        self._line, self._num_cut_chars = "", 0
