"""Ctrl-C and SIGTERM as a cancellation of what is awaited, so that everything it began is ended.

    async with cancelled_by_signals():
        await execution.run(call)

Prefect's own handler raises in the middle of the event loop; this one stands in front of it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    for number in SIGNALS:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
