"""Turns on a host without GPUs: bodies that compute share it, one that measures has it alone.

One readers-writer lock per home, made of two flocks that the kernel frees at death. Whoever
measures holds the gate while it waits, so that computing bodies which come later queue behind it.

    async with measure_turn(home) as turn:
        ...    # no other step of this home runs in place on this host

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
async def compute_turn(home: Path) -> AsyncIterator[int]:
    """Share the host with others that compute."""
    async with _locked(home, "host-gate", fcntl.LOCK_EX):
        turn = await _acquire(home, "host", fcntl.LOCK_SH)
    try:
        yield turn
    finally:
        os.close(turn)


@asynccontextmanager
async def measure_turn(home: Path) -> AsyncIterator[int]:
    """Have the host alone; waits until the bodies that run now have ended."""
    async with _locked(home, "host-gate", fcntl.LOCK_EX):
        turn = await _acquire(home, "host", fcntl.LOCK_EX)
    try:
        yield turn
    finally:
        os.close(turn)


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
