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
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tasks.flock import lock_file
from tasks.store.files import make_folder

OTHERS = "the other steps of this machine to end, as it measures time"
ONE_THAT_MEASURES = "a step that measures time, which runs alone"

OnWait = Callable[[str], None]


@asynccontextmanager
async def turn(home: Path, *, alone: bool, on_wait: OnWait | None = None) -> AsyncIterator[int]:
    """Share the host with others that compute, or wait until they have ended and have it alone.

    `on_wait` is told what there is to wait for, if anything.
    """
    folder = home / "leases"
    make_folder(folder)

    def say(_: int) -> None:
        if on_wait is not None:
            on_wait(OTHERS if alone else ONE_THAT_MEASURES)

    gate = await lock_file(folder / "host-gate", on_wait=say)
    try:
        mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        held = await lock_file(folder / "host", mode, say)
    finally:
        os.close(gate)
    try:
        yield held
    finally:
        os.close(held)
