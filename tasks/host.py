"""Turns on a host, with or without GPUs: bodies that compute share it, one that measures is alone.

One readers-writer lock per home, made of two flocks that the kernel frees at death. Whoever
measures holds the gate while it waits, so that computing bodies which come later queue behind it.

    async with turn(home, alone=True) as held:
        ...    # no other body of this home runs on this host

Every step takes its turn when it has its GPUs, so that one which waits for a GPU keeps nobody from
measuring. A body that measures on one GPU leaves the others idle meanwhile: memory, cores and the
bus are shared by all. Not told apart are other homes' steps, and whatever else runs on the host.

A turn is an open descriptor: passed on to `tasks.process.run`, it lasts until the body is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

POLL_S = 0.05


@asynccontextmanager
async def turn(home: Path, *, alone: bool) -> AsyncIterator[int]:
    """Share the host with others that compute, or wait until they have ended and have it alone."""
    async with _locked(home, "host-gate", fcntl.LOCK_EX):
        held = await _acquire(home, "host", fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield held
    finally:
        os.close(held)


@asynccontextmanager
async def _locked(home: Path, name: str, mode: int) -> AsyncIterator[None]:
    lock = await _acquire(home, name, mode)
    try:
        yield
    finally:
        os.close(lock)


async def _acquire(home: Path, name: str, mode: int) -> int:
    """An open descriptor that holds the lock; closing it gives the lock back."""
    folder = home / "leases"
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(POLL_S)
            else:
                return lock
    except BaseException:
        os.close(lock)
        raise
