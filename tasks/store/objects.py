"""Objects: bytes named by their sha256, kept once, verified whenever they are read.

digest, size_bytes = objects.add(Path("config.json"))
objects.sync([digest])                                  # durable from here on
objects.verify(digest, size_bytes, "config.json")       # Corrupted if a bit changed
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.digests import DIGESTS, Signature, what_it_is
from tasks.errors import Corrupted
from tasks.store import files
from tasks.store.layout import Layout
from tasks.store.scratch import scratch_file

CANNOT_MOVE = (errno.EXDEV, errno.EPERM, errno.EACCES)
DAMAGED_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)


class Objects:
    """The objects of one store. Raises OSError where the disk refuses."""

    def __init__(self, layout: Layout):
        self._layout = layout

    def add(self, source: Path, *, move: bool = False) -> tuple[str, int]:
        """Keep a file; returns digest and size. Durable only after `sync`."""
        before = os.lstat(source)
        digest = DIGESTS.digest(source)
        target = self._layout.object(digest)
        if not self._is_intact(digest):
            files.make_folder(target.parent)
            self._clear_the_way(target)
            may_move = move and stat.S_ISREG(before.st_mode) and before.st_nlink == 1
            if not (may_move and self._move(source, before, target, digest)):
                digest = self._copy(source)
                target = self._layout.object(digest)
        return digest, target.stat().st_size

    def add_bytes(self, data: bytes) -> str:
        """Keep bytes; returns their digest. Durable only after `sync`."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._is_intact(digest):
            target = self._layout.object(digest)
            files.make_folder(target.parent)
            self._clear_the_way(target)
            with scratch_file(self._layout.scratch) as temporary:
                files.write_new(temporary, data, files.READ_ONLY)
                os.replace(temporary, target)
        return digest

    def sync(self, digests: Iterable[str]) -> None:
        """Make the names of objects durable."""
        for folder in sorted({self._layout.object(digest).parent for digest in digests}):
            files.sync_folder(folder)

    def verify(self, digest: str, size_bytes: int | None, what: str) -> Path:
        """The path of an object whose every byte is right; `Corrupted`, naming `what`, if not."""
        path = self._layout.object(digest)
        with _damage_of(what, path):
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise Corrupted(what, f"{path} is {what_it_is(status.st_mode)}, not a file")
            if size_bytes is not None and status.st_size != size_bytes:
                raise Corrupted(what, f"{path} has {status.st_size} bytes, not {size_bytes}")
            if DIGESTS.digest(path) != digest:
                raise Corrupted(what, f"{path} holds other bytes than its digest says")
        return path

    def read(self, digest: str, what: str) -> bytes:
        """The bytes of a small object, verified."""
        path = self._layout.object(digest)
        with _damage_of(what, path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise Corrupted(what, f"{path} holds other bytes than its digest says")
        return data

    def _is_intact(self, digest: str) -> bool:
        try:
            self.verify(digest, None, digest)
        except Corrupted:
            return False
        return True

    def _move(self, source: Path, before: os.stat_result, target: Path, digest: str) -> bool:
        """Make the source itself the object; False if it has to be copied after all."""
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if Signature.of(os.fstat(fd)) != Signature.of(before):  # changed while it was hashed
                return False
            files.seal(fd)
            os.replace(source, target)
        except OSError as error:
            if error.errno in CANNOT_MOVE:
                return False
            raise
        finally:
            os.close(fd)
        DIGESTS.remember(target, digest)
        return True

    def _copy(self, source: Path) -> str:
        """Keep a copy under the digest of what was copied, should the source change meanwhile."""
        with scratch_file(self._layout.scratch) as temporary:
            digest = files.copy_new(source, temporary)
            target = self._layout.object(digest)
            files.make_folder(target.parent)
            os.replace(temporary, target)
        DIGESTS.remember(target, digest)
        return digest

    @staticmethod
    def _clear_the_way(target: Path) -> None:
        """Set aside what cannot be replaced by a file: a folder in an object's place."""
        if target.is_dir() and not target.is_symlink():
            set_aside(target)


@contextmanager
def _damage_of(what: str, path: Path) -> Iterator[None]:
    """An object that is gone, or that the disk cannot give back, is corrupted like any other."""
    try:
        yield
    except OSError as error:
        if error.errno not in DAMAGED_PATH:
            raise
        is_missing = error.errno == errno.ENOENT
        reason = "is missing" if is_missing else f"cannot be read: {error.strerror}"
        raise Corrupted(what, f"{path} {reason}") from error


def set_aside(path: Path) -> Path:
    """Rename to the first free `<name>.corrupt-<n>`; returns the new path."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.corrupt-{number}")):
        number += 1
    os.rename(path, aside)
    files.sync_folder(path.parent)
    return aside
