"""Locks of the kernel's on files: had at once or waited for, and freed when their holder dies.

    fd = await lock_file(folder / "host", fcntl.LOCK_SH)
    ...
    os.close(fd)                        # gives the lock back, unless a child process inherited it

A flock belongs to an open file, so it also keeps apart threads and event loops of one process, and
a child that inherits the descriptor holds it on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

FIRST_POLL_S, LAST_POLL_S = 0.002, 0.05


def try_lock(fd: int, mode: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock, exclusive by default, could be had without waiting."""
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def lock_file(
    path: Path, mode: int = fcntl.LOCK_EX, on_wait: Callable[[int], None] | None = None
) -> int:
    """Wait for the lock; returns the open file that holds it until it is closed everywhere.

    The file is made if it is absent, in a folder that is there. `on_wait` is called once, with the
    open file, if it takes longer than a moment. Cancelling the wait leaves nothing behind.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        poll_s = FIRST_POLL_S
        while not try_lock(fd, mode):
            if on_wait is not None and poll_s == LAST_POLL_S:
                on_wait(fd)
                on_wait = None
            await asyncio.sleep(poll_s)
            poll_s = min(LAST_POLL_S, 1.5 * poll_s)
    except BaseException:
        os.close(fd)
        raise
    return fd
