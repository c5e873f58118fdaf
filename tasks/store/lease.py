"""Leases on this machine: one flock for each identity, freed by the kernel when its holder dies.

    fd = await acquire(path, on_wait=lambda holder: print(f"waiting for {holder}"))
    ...                                 # nobody else computes this identity
    os.close(fd)

What a flock promises stands in tasks/flock.py. The file itself only says who holds the lock, for
those who wait; it stays, as removing it could give two processes a lock each.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from tasks.canonical import canonical_json
from tasks.flock import lock_file
from tasks.store.base import Holder, OnWait
from tasks.store.files import make_folder

MAX_HOLDER_BYTES = 4096


async def acquire(path: Path, on_wait: OnWait | None = None) -> int:
    """Wait for the lock; returns the open file that holds it until it is closed everywhere.

    Cancelling the wait leaves nothing behind.
    """
    make_folder(path.parent)
    fd = await lock_file(path, on_wait=on_wait and (lambda fd: on_wait(_read_holder(fd))))
    try:
        _write_holder(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_holder(fd: int) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(host=socket.gethostname(), pid=os.getpid(), since=since)
    os.ftruncate(fd, 0)
    os.pwrite(fd, canonical_json(holder), 0)


def _read_holder(fd: int) -> Holder | None:
    """Who holds it; None in the moment before the holder has written that down."""
    try:
        return Holder.model_validate_json(os.pread(fd, MAX_HOLDER_BYTES, 0))
    except ValueError:
        return None
