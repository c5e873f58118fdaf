"""Who watches a step: the terminal, Prefect, a log. A step tells, an observer shows.

    with observing(LiveTable()):
        await train(spec)

Observers are carried by a context variable, so that nothing of what watches a step is an argument
of it. What an observer raises would end the step: those that talk to a network guard themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any


class Observer:
    """Does nothing; override what you want to know."""

    log_folder: Path | None = None
    """Where a copy of the body's output goes, whatever its end."""

    def started(self, step: str, identity: str) -> None:
        """The body is about to start."""

    def output(self, stream: str, line: str) -> None:
        """The body printed a line."""

    async def progress(self, metrics: dict[str, Any]) -> None:
        """The newest line of the body's metrics.jsonl."""

    def warned(self, message: str) -> None:
        """Something was wrong and was dealt with (a corrupted record, a foreign lease)."""


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


def observers() -> tuple[Observer, ...]:
    """The observers of the current context, outermost first."""
    return _observers.get()
