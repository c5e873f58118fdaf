"""Ctrl-C and SIGTERM as a cancellation of what is awaited, so that everything it began is ended.

    async with cancelled_by_signals():
        await execution.run(call)

Prefect's own handler raises in the middle of the event loop; this one stands in front of it. One
may stand within another: the inner is told, and after it the outer again.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_told: list[Callable[[], None]] = []  # whom a signal cancels, the innermost last


@asynccontextmanager
async def cancelled_by_signals() -> AsyncIterator[None]:
    """The first signal cancels the current task, later ones are ignored while it ends."""
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    loop = asyncio.get_running_loop()
    is_told = False

    def cancel() -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            task.cancel("stopped by a signal")

    previous = {number: signal.getsignal(number) for number in SIGNALS}
    _told.append(cancel)
    for number in SIGNALS:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        _told.remove(cancel)
        for number, handler in previous.items():
            if _told:
                loop.add_signal_handler(number, _told[-1])
                continue
            loop.remove_signal_handler(number)
            if handler is not None:  # None: it was not Python that set it
                signal.signal(number, handler)
