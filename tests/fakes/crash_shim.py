"""Kills this process at its n-th change of a folder: for tests that try every moment to die at.

    shim = CrashShim(home, kill_at=7).install()
    ...                       # SIGKILL right before the 7th operation below `home`
    shim.operations           # those so far, where it was not killed
    in_fork(compute)          # runs it in a process that is there to be killed

Counted are writes and fsyncs of open files, and everything that changes names: opening a file to
write, rename, link, symlink, unlink, mkdir, rmdir, chmod, utime, truncate. A write that is hit
leaves its first half behind. Installing cannot be undone (audit hooks cannot), so install it in a
process that is there to be killed. What a child process does is not counted.

Writes through Python's file objects show as the opening of the file only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

NAME_EVENTS = {
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.chmod": 1,
    "os.utime": 1,
    "os.truncate": 1,
}
"""Audit event to how many of its first arguments are paths (or descriptors)."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Operation(NamedTuple):
    """One change: `write`, `fsync`, `open`, or the name of an audit event without `os.`"""

    name: str
    paths: tuple[str, ...]


@dataclass
class CrashShim:
    """Counts the operations below a folder and dies at one of them."""

    folder: Path
    kill_at: int | None = None
    operations: list[Operation] = field(default_factory=list)
    _guard: Any = field(default_factory=threading.RLock)

    def install(self) -> Self:
        self.folder = self.folder.resolve()
        real_write, real_fsync = os.write, os.fsync

        def write(fd: int, data: Any) -> int:
            if self._counts(Operation("write", (_path_of(fd),))):
                real_write(fd, memoryview(data)[: len(data) // 2])
                self._die()
            return real_write(fd, data)

        def fsync(fd: int) -> None:
            if self._counts(Operation("fsync", (_path_of(fd),))):
                self._die()
            real_fsync(fd)

        os.write, os.fsync = write, fsync
        sys.addaudithook(self._audit)
        return self

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int):
                self._name_event(Operation("open", (os.fsdecode(path),)))
        elif event in NAME_EVENTS:
            paths = (_path_of(item) for item in arguments[: NAME_EVENTS[event]])
            self._name_event(Operation(event.removeprefix("os."), tuple(paths)))

    def _name_event(self, operation: Operation) -> None:
        if self._counts(operation):
            self._die()

    def _counts(self, operation: Operation) -> bool:
        """Take note of an operation below the folder; whether it is the one to die at."""
        if not any(Path(path).is_relative_to(self.folder) for path in operation.paths):
            return False
        with self._guard:
            self.operations.append(operation)
            return len(self.operations) == self.kill_at

    @staticmethod
    def _die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def in_fork(function: Callable[[], object]) -> int:
    """Run in a fork; its exit code, negative for signals."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _path_of(path_or_fd: Any) -> str:
    if isinstance(path_or_fd, int):
        try:
            return os.readlink(f"/proc/self/fd/{path_or_fd}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(path_or_fd))
