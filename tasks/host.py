"""Turns on a host, with or without GPUs: bodies that compute share it, one that measures is alone.

One readers-writer lock per home, made of two flocks that the kernel frees at death. Whoever
measures holds the gate while it waits, so that computing bodies which come later queue behind it.

    async with turn(home, alone=True) as held:
        ...    # no other body of this home runs on this host

Every step takes its turn when it has its GPUs, so that one which waits for a GPU keeps nobody from
measuring. A body that measures on one GPU leaves the others idle meanwhile: memory, cores and the
bus are shared by all. Not told apart are other homes' steps, and whatever else runs on the host.

A turn is an open descriptor: passed on to `tasks.process.run`, it lasts until the body is gone.

A body's own descendants share its turn, as it waits for them: one that would have the host alone
is refused. A body tells them by the variable WITHIN, which its scripts pass on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tasks.errors import LabwrightError
from tasks.flock import lock_file, try_lock
from tasks.store.files import make_folder

WITHIN = "LABWRIGHT_WITHIN"  # the home whose turn a body has, in its environment
OTHERS = "the other steps of this machine to end, as it measures time"
ONE_THAT_MEASURES = "a step that measures time, which runs alone"

OnWait = Callable[[str], None]


class NestedStep(LabwrightError):
    """A step was called from inside of another one, and would wait for that one's end."""


def refuse_nested(home: Path, *, alone: bool) -> None:
    """Raise `NestedStep` inside of a body of this home for what has to be alone."""
    if alone and _is_within(home):
        raise NestedStep(
            "it measures time, alone on this machine, and was called from inside of another step "
            f"of {home}, whose end it would wait for; run it by itself, or as a step of the file"
        )


def _is_within(home: Path) -> bool:
    body_home = os.environ.get(WITHIN)
    return bool(body_home) and os.path.realpath(str(body_home)) == os.path.realpath(home)


@asynccontextmanager
async def turn(home: Path, *, alone: bool, on_wait: OnWait | None = None) -> AsyncIterator[int]:
    """Share the host with others that compute, or wait until they have ended and have it alone.

    `on_wait` is told what there is to wait for, if anything. Raises `NestedStep`.
    """
    refuse_nested(home, alone=alone)
    folder = home / "leases"
    make_folder(folder)
    if _is_within(home):  # not through the gate: whoever waits there may wait for the outer body
        with _shared(folder / "host") as held:
            yield held
        return

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


@contextmanager
def _shared(path: Path) -> Iterator[int]:
    """The lock that the outer body holds, once more."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(held, fcntl.LOCK_SH):
            raise NestedStep("it was called from inside of a step that measures time, alone")
        yield held
    finally:
        os.close(held)
