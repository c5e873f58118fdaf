"""Who watches a step: the terminal, Prefect, a log. A step tells, an observer shows.

    with observing(LiveTable()):
        await train(spec)

Observers are carried by a context variable, so that nothing of what watches a step is an argument
of it. What an observer raises would end the step: those that talk to a network guard themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

GOING_ON = "going on from "
"""A body that was killed before begins a line so, to say from where it works on."""


class Observer:
    """Does nothing; override what you want to know."""

    log_folder: Path | None = None
    """Where a copy of the body's output goes, whatever its end."""

    def waiting(self, what: str | None) -> None:
        """The step waits for this before it can work; None: the wait is over."""

    def started(self, step: str, identity: str) -> None:
        """The body is about to start, and waits for nothing any more."""

    def output(self, stream: str, line: str) -> None:
        """The body printed a line."""

    async def progress(self, metrics: dict[str, Any]) -> None:
        """The newest line of the body's metrics.jsonl."""

    def warned(self, message: str) -> None:
        """Something was wrong and was dealt with (a corrupted record, a foreign lease)."""


class WorkClock(Observer):
    """Seconds of a step's work: begun anew whenever a wait is over."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def waiting(self, what: str | None) -> None:
        if what is None:
            self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


_observers: ContextVar[tuple[Observer, ...]] = ContextVar("labwright_observers", default=())


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Add an observer to every step that is called inside."""
    token = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(token)


def warn(message: str) -> None:
    """Tell every observer of the current context."""
    for observer in observers():
        observer.warned(message)


def tell_waiting(what: str | None) -> None:
    """Tell every observer what the step waits for; None where it goes on."""
    for observer in observers():
        observer.waiting(what)


def observers() -> tuple[Observer, ...]:
    """The observers of the current context, outermost first."""
    return _observers.get()
