"""What a body says reaches every observer, and no observer can hold a step up at its end."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tasks.metrics import MetricsTail, read_metrics
from tasks.observer import Observer, observing
from tasks.relay import Relay
from tasks.scrubbing import Scrubber
from tests.fakes.steps import Witness


class Deaf(Observer):
    """Takes its time, and does not hear that it is cancelled."""

    async def progress(self, metrics: dict[str, Any]) -> None:  # noqa: ARG002
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


class Faulty(Observer):
    """Cannot show progress."""

    async def progress(self, metrics: dict[str, Any]) -> None:  # noqa: ARG002
        raise OSError("no terminal")


def relay_of(metrics: Path) -> Relay:
    metrics.write_text('{"step": 1, "num_steps": 2}\n')
    return Relay(MetricsTail(metrics), Scrubber(()))


async def test_an_observer_that_swallows_cancellation_does_not_hold_the_step_up(
    tmp_path: Path,
) -> None:
    relay = relay_of(tmp_path / "metrics.jsonl")

    async def run() -> None:
        async with relay.running():
            await asyncio.sleep(0.3)

    with observing(Deaf()):
        await asyncio.wait_for(run(), 5)


async def test_what_an_observer_raises_ends_the_step_and_the_others_have_their_lines(
    tmp_path: Path,
) -> None:
    relay, witness = relay_of(tmp_path / "metrics.jsonl"), Witness()

    async def run() -> None:
        async with relay.running():
            relay.line("stdout", "the first")
            await asyncio.sleep(0.3)
            relay.line("stdout", "the last")

    with observing(Faulty()), observing(witness), pytest.raises(OSError, match="no terminal"):
        await run()
    assert witness.lines == ["the first", "the last"]


def test_only_complete_and_sensible_lines_of_metrics_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.newest() is None
    path.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert tail.newest() == {"step": 1, "loss": 2.5}
    assert tail.newest() is None
    with path.open("a") as file:
        file.write('ss": 2.0, "num_steps": "many"}\nnoise\n{"step": "x"}\n[1]\n')
    assert tail.newest() is None, "the newest line is no metrics"
    assert read_metrics(path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}]
