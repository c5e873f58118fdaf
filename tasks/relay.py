"""From a running body to whoever watches it: its lines and its newest metrics, as they come."""

from __future__ import annotations

import asyncio

from tasks.metrics import MetricsTail
from tasks.observer import observers

RELAY_INTERVAL_S = 0.2


class Relay:
    """Hands a body's output and progress to the observers, a few times a second."""

    def __init__(self, metrics: MetricsTail):
        self._metrics = metrics
        self._lines: list[tuple[str, str]] = []

    def line(self, stream: str, line: str) -> None:
        self._lines.append((stream, line))

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(RELAY_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        lines, self._lines = self._lines, []
        newest = self._metrics.newest()
        for observer in observers():
            for stream, line in lines:
                observer.output(stream, line)
            if newest is not None:
                await observer.progress(newest)
