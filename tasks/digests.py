"""sha256 of files: once per process for a file that did not change, several files side by side.

Whether a file changed is told by its inode, size, mtime and ctime. A file that was touched a moment
ago is hashed but not remembered, as a second write within the clock's tick would leave no trace.

    DIGESTS.digest(Path("model.safetensors"))      # hashed
    DIGESTS.digest(Path("model.safetensors"))      # remembered

Files must be regular ones: ValueError for what else stands at a path, OSError for what cannot be
read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
U = TypeVar("U")

SETTLED_NS = 100_000_000  # 0.1 s, well above the tick of any file system's clock
MAX_THREADS = 8


class Signature(NamedTuple):
    """What the file system says of a file; it differs after every change that we have to notice."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def is_settled(self, now_ns: int) -> bool:
        """Whether a later write is bound to change it."""
        return now_ns - max(self.mtime_ns, self.ctime_ns) > SETTLED_NS


class Digests:
    """Remembers digests by path and signature. Safe to share between threads."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._known: dict[str, tuple[Signature, str]] = {}
        self._clock_ns = clock_ns

    def digest(self, path: Path) -> str:
        """sha256 of a regular file's bytes; links are followed."""
        known = self.known(path)
        if known is not None:
            return known
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # opening a pipe or a device would wait, or do something
            raise ValueError(f"{path} is {what_it_is(mode)}, not a regular file")
        with path.open("rb") as file:
            before = Signature.of(os.fstat(file.fileno()))
            started_ns = self._clock_ns()
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            signature = Signature.of(os.fstat(file.fileno()))
        if signature == before and signature.is_settled(started_ns):
            self._known[os.fspath(path)] = (signature, digest)
        return digest

    def known(self, path: Path) -> str | None:
        """The digest, if this process hashed the file as it is now."""
        known = self._known.get(os.fspath(path))
        if known is None or known[0] != Signature.of(os.stat(path)):
            return None
        return known[1]

    def remember(self, path: Path, digest: str) -> None:
        """Take note of a digest that the caller computed while it wrote the file."""
        self._known[os.fspath(path)] = (Signature.of(os.stat(path)), digest)


DIGESTS = Digests()
"""What this process knows of the files of users and of stores."""


def digest_all(paths: Iterable[Path], digests: Digests = DIGESTS) -> list[str]:
    """The digest of each file, several at a time."""
    return in_threads(digests.digest, paths)


def in_threads(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`function` of each item, side by side: hashlib and the disk give their threads a core each.

    The first exception ends it; what has not begun by then does not begin.
    """
    listed = list(items)
    num_threads = min(MAX_THREADS, os.cpu_count() or 1, len(listed))
    if num_threads < 2:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(num_threads, thread_name_prefix="labwright") as pool:
        try:
            return list(pool.map(function, listed))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def what_it_is(mode: int) -> str:
    """`a folder`, `a socket`, …: the kind of thing that has these mode bits."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a link",
        stat.S_IFREG: "a regular file",
    }
    return kinds.get(stat.S_IFMT(mode), "something unknown")
