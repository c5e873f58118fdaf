"""A folder for half-made files, whose leftovers are removed after its process is dead.

Each process has one folder per home and holds a flock in it, which the kernel frees at death,
whatever kind of death. Whoever opens a scratch folder of its own first clears those that nobody
holds. That works across containers and hosts that share the home, where pids would lie.

    with scratch_file(home / "scratch") as temporary:
        ...                              # write it, then rename or link it to where it belongs
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.flock import try_lock
from tasks.store.files import make_folder, remove

LOCK_FILE = "lock"

_own_folders: dict[tuple[Path, int], Path] = {}
_guard = threading.Lock()


@contextmanager
def scratch_file(parent: Path) -> Iterator[Path]:
    """An unused path; what is still there at the end is removed."""
    path = scratch_path(parent)
    try:
        yield path
    finally:
        remove(path)


def scratch_path(parent: Path) -> Path:
    """An unused path in this process's own folder; for a folder that its caller moves away."""
    key = (parent, os.getpid())
    with _guard:
        folder = _own_folders.get(key)
        if folder is None or not folder.is_dir():
            clear_abandoned(parent)
            folder = _own_folders[key] = _open_folder(parent)
    return folder / secrets.token_hex(8)


def clear_abandoned(parent: Path) -> None:
    """Remove the folders of processes that are dead."""
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            _remove_if_empty(folder)  # killed before it had its lock, or removed by another
            continue
        except PermissionError:
            continue  # another user's
        try:
            if try_lock(lock):  # else its process lives
                _remove_tree(folder)
        finally:
            os.close(lock)


def _open_folder(parent: Path) -> Path:
    """A new folder whose lock this process holds until it ends."""
    make_folder(parent)
    while True:
        folder = parent / secrets.token_hex(8)
        os.mkdir(folder, 0o700)
        try:
            lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another process cleared it before it had its lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:  # else the same, a moment later
            atexit.register(_remove_at_exit, folder, os.getpid())
            return folder
        os.close(lock)


def _remove_at_exit(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork
        _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    """Remove a folder, its lock last, so that a half-removed one is found again."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name == LOCK_FILE:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            remove(entry)
    remove(folder / LOCK_FILE)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # somebody is filling it, or it is gone
