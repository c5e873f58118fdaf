"""From a running body to whoever watches it: its lines and its newest metrics, as they come.

relay = Relay(MetricsTail(out / "metrics.jsonl"), scrubber)
async with relay.running():
    await run(command, on_line=relay.line)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasks.metrics import MetricsTail
from tasks.observer import observers
from tasks.scrubbing import Scrubber

RELAY_INTERVAL_S = 0.2


class Relay:
    """Hands a body's output and progress to the observers, a few times a second."""

    def __init__(self, metrics: MetricsTail, scrubber: Scrubber):
        self._metrics = metrics
        self._scrubber = scrubber
        self._lines: list[tuple[str, str]] = []
        self._is_over = False

    def line(self, stream: str, line: str) -> None:
        """Take a line of the body; cheap, as the event loop waits for it."""
        self._lines.append((stream, self._scrubber.text(line)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What came is told at the end too; progress only if nothing went wrong."""
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            self._is_over = True  # an observer may swallow the cancellation
            ticking.cancel()
            await asyncio.wait({ticking})
            self._tell_lines()
        if not ticking.cancelled():
            ticking.result()  # raises what an observer raised
        await self._tell_progress()

    async def _tick(self) -> None:
        while not self._is_over:
            await asyncio.sleep(RELAY_INTERVAL_S)
            self._tell_lines()
            await self._tell_progress()

    def _tell_lines(self) -> None:
        lines, self._lines = self._lines, []
        for observer in observers():
            for stream, line in lines:
                observer.output(stream, line)

    async def _tell_progress(self) -> None:
        newest = self._metrics.newest()
        if newest is not None:
            for observer in observers():
                await observer.progress(self._scrubber.value(newest))
