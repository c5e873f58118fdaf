"""Who computes shares the host, who measures has it alone, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.command import CommandSpec, command
from tasks.host import WITHIN, NestedStep, turn
from tasks.store import open_store


async def test_those_who_compute_share_and_those_who_measure_do_not(tmp_path: Path) -> None:
    running: set[str] = set()
    alone = []

    async def compute(name: str) -> None:
        async with turn(tmp_path, alone=False):
            running.add(name)
            assert "measures" not in running
            await asyncio.sleep(0.05)
            running.remove(name)

    async def measure() -> None:
        async with turn(tmp_path, alone=True):
            alone.append(not running)
            running.add("measures")
            await asyncio.sleep(0.05)
            running.remove("measures")

    await asyncio.gather(*[compute(str(n)) for n in range(6)], *[measure() for _ in range(3)])
    assert alone == [True, True, True]


async def test_two_compute_at_the_same_time(tmp_path: Path) -> None:
    async with turn(tmp_path, alone=False):
        await asyncio.wait_for(enter(tmp_path), 5)


async def enter(home: Path) -> None:
    async with turn(home, alone=False):
        pass


async def test_who_comes_after_one_that_waits_to_measure_waits_behind_it(tmp_path: Path) -> None:
    order = []

    async def measure() -> None:
        async with turn(tmp_path, alone=True):
            order.append("measures")

    async def compute() -> None:
        async with turn(tmp_path, alone=False):
            order.append("computes")

    async with turn(tmp_path, alone=False):
        measuring = asyncio.create_task(measure())
        await asyncio.sleep(0.1)
        computing = asyncio.create_task(compute())
        await asyncio.sleep(0.2)
        assert order == [], "the later one does not overtake"
    await asyncio.gather(measuring, computing)
    assert order == ["measures", "computes"]


async def test_a_cancelled_wait_leaves_the_way_free(tmp_path: Path) -> None:
    async with turn(tmp_path, alone=False):
        waiting = asyncio.create_task(measure_for_ever(tmp_path))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(enter(tmp_path), 5)


async def measure_for_ever(home: Path) -> None:
    async with turn(home, alone=True):
        await asyncio.sleep(60)


async def test_the_turn_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    async with turn(tmp_path, alone=True) as held:
        body = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], pass_fds=[held]
        )
    try:
        with (tmp_path / "leases" / "host").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        body.kill()
        body.wait()
    await asyncio.wait_for(enter(tmp_path), 5)
    assert os.listdir(tmp_path / "leases")


async def test_what_runs_inside_of_a_body_shares_its_turn_and_cannot_have_the_host_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with turn(tmp_path, alone=False):
        waiting = asyncio.create_task(measure_for_ever(tmp_path))
        await asyncio.sleep(0.1)  # it has the gate by now
        monkeypatch.setenv(WITHIN, str(tmp_path))
        await asyncio.wait_for(enter(tmp_path), 5)
        with pytest.raises(NestedStep, match="called from inside of another step"):
            await asyncio.wait_for(measure_for_ever(tmp_path), 5)
        monkeypatch.setenv(WITHIN, str(tmp_path / "other"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(enter(tmp_path), 0.2)  # of another home: it waits as all do
        waiting.cancel()
    monkeypatch.delenv(WITHIN)
    async with turn(tmp_path, alone=True):
        monkeypatch.setenv(WITHIN, str(tmp_path))
        with pytest.raises(NestedStep, match="inside of a step that measures"):
            await asyncio.wait_for(enter(tmp_path), 5)


NESTED = """
import asyncio, sys
from tasks.errors import StepFailed
from tests.fakes.steps import ToySpec, measure, toy

print("computes", asyncio.run(toy.compute(ToySpec(seed=1))).is_cached)
try:
    asyncio.run(asyncio.wait_for(measure.compute(ToySpec(seed=2)), 20))
except StepFailed as failure:
    print(failure.reason)
"""


async def test_a_script_that_calls_a_measuring_step_is_told_so_at_once(home: Path) -> None:
    variables = {"LABWRIGHT_HOME": str(home), "PYTHONPATH": os.environ["PYTHONPATH"]}
    words = [sys.executable, "-c", NESTED]
    outer = await command.compute(CommandSpec(script=words, inputs={}, environment=variables))
    assert outer.record.logs is not None
    logs = open_store(home).materialize(outer.record.logs)
    told = (logs / "stdout.txt").read_text().splitlines()
    assert told[0] == "computes False"
    assert told[1].startswith("it measures time, alone on this machine, and was called from inside")
