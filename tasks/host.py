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

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tasks.flock import lock_file
from tasks.store.files import make_folder


@asynccontextmanager
async def turn(home: Path, *, alone: bool) -> AsyncIterator[int]:
    """Share the host with others that compute, or wait until they have ended and have it alone."""
    folder = home / "leases"
    make_folder(folder)
    gate = await lock_file(folder / "host-gate")
    try:
        held = await lock_file(folder / "host", fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    finally:
        os.close(gate)
    try:
        yield held
    finally:
        os.close(held)
