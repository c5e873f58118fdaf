"""One output stream of a command on its way from a pipe to a file.

A full disk or a log past its limit costs text, never the command's progress: the pipe is always
emptied. Past the limit the file keeps the head, the last bytes, and a line that says how much is
missing between them.
"""

from __future__ import annotations

import os
import select

CHUNK_BYTES = 1 << 16
KEPT_END_BYTES = 1 << 18


class BodyLog:
    """Copies what comes out of `pipe` into `file`, both descriptors."""

    def __init__(self, pipe: int, file: int, limit_bytes: float):
        self._pipe = pipe
        self._file = file
        self._room_bytes = limit_bytes
        self._end = b""
        self._num_left_out = 0
        self._is_writable = True
        os.set_blocking(pipe, False)

    def pump(self) -> bool:
        """Move what is there now; False at the end of the stream."""
        try:
            data = os.read(self._pipe, CHUNK_BYTES)
        except BlockingIOError:
            return True
        num_head = int(min(self._room_bytes, len(data)))
        self._room_bytes -= num_head
        self._write(data[:num_head])
        self._keep(data[num_head:])
        return bool(data)

    def finish(self) -> None:
        """Move what is left, then write the kept end. The writers are gone by now."""
        while select.select([self._pipe], [], [], 0)[0] and self.pump():
            pass
        if self._num_left_out:
            self._write(b"\n[%d bytes are left out here]\n" % self._num_left_out)
        self._write(self._end)

    def _keep(self, data: bytes) -> None:
        kept = self._end + data
        self._num_left_out += max(0, len(kept) - KEPT_END_BYTES)
        self._end = kept[-KEPT_END_BYTES:]

    def _write(self, data: bytes) -> None:
        while data and self._is_writable:
            try:
                data = data[os.write(self._file, data) :]
            except OSError:  # the disk is full: what was written so far stays
                self._is_writable = False
