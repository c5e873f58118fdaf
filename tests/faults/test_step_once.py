"""One computation per identity, whoever calls, and whoever of them dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tasks.host import turn
from tasks.observer import observing
from tests.fakes.steps import CountSpec, Manner, ToySpec, Witness, notes, placed, starts, toy

NUM_CALLERS = 8
FREED_S = 2.0  # within which a killed caller's lease is free, besides the grace of its body

CALLER = """
import asyncio, json, sys
from pathlib import Path
from tests.fakes import steps
step, spec, folder = getattr(steps, sys.argv[1]), sys.argv[2], Path(sys.argv[3])
computed = asyncio.run(step.compute(step.spec_type.model_validate_json(spec), steps.placed(folder)))
print(json.dumps([computed.is_cached, computed.result.model_dump(mode="json")]))
"""


def caller(step: str, spec: Any, folder: Path) -> subprocess.Popen[str]:
    """Another process that wants the step's result and prints it."""
    return subprocess.Popen(
        [sys.executable, "-c", CALLER, step, spec.model_dump_json(), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )


def answer_of(process: subprocess.Popen[str]) -> tuple[bool, Any]:
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    is_cached, result = json.loads(told)
    return is_cached, result


def wait_for_note(folder: Path, event: str, num: int = 1) -> None:
    deadline = time.monotonic() + 20
    while len(notes(folder, event)) < num:
        assert time.monotonic() < deadline, f"no {event}"
        time.sleep(0.02)


def test_eight_callers_in_threads_with_loops_of_their_own_run_the_body_once(home: Path) -> None:
    found = []

    def call() -> None:
        found.append(asyncio.run(toy.compute(ToySpec(sleep_s=0.3), placed(home))))

    threads = [threading.Thread(target=call) for _ in range(NUM_CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert starts(home) == 1
    assert [computed.is_cached for computed in found].count(False) == 1
    assert len({computed.result.model_dump_json() for computed in found}) == 1
    assert len(found) == NUM_CALLERS


async def test_eight_callers_in_one_event_loop_run_the_body_once(home: Path) -> None:
    calls = [toy.compute(ToySpec(sleep_s=0.1), placed(home)) for _ in range(NUM_CALLERS)]
    found = await asyncio.gather(*calls)
    assert starts(home) == 1
    assert [computed.is_cached for computed in found].count(False) == 1


def test_eight_callers_in_processes_run_the_body_once(home: Path) -> None:
    callers = [caller("toy", ToySpec(sleep_s=0.3), home) for _ in range(NUM_CALLERS)]
    found = [answer_of(process) for process in callers]
    assert starts(home) == 1
    assert [is_cached for is_cached, _ in found].count(False) == 1
    assert len({json.dumps(result) for _, result in found}) == 1


def test_a_killed_callers_body_is_dead_before_the_next_callers_starts(home: Path) -> None:
    """The body forks into other sessions and ignores SIGTERM; the lease waits for all of it."""
    spec = CountSpec(num_units=4, unit_s=0.4)
    first = caller("count", spec, home)
    wait_for_note(home, "unit-0")
    second = caller("count", spec, home)
    time.sleep(1.0)  # it is up and waits by now
    assert starts(home) == 1
    killed_at = time.monotonic()
    first.kill()
    is_cached, result = answer_of(second)
    first.wait()
    assert (is_cached, result["num_units"]) == (False, 4)
    (_, pid, _), (_, other_pid, restarted_at) = notes(home, "start")
    assert restarted_at - killed_at < FREED_S
    assert max(when for _, who, when in notes(home) if who == pid) < restarted_at
    units = [name for name, _, _ in notes(home, "unit")]
    assert units.count("unit-0") == 1, "the second went on from the first one's checkpoint"
    assert pid != other_pid


def test_a_killed_caller_of_a_stubborn_body_frees_its_lease_in_time(home: Path) -> None:
    spec = ToySpec(manner=Manner.FORKS)
    first = caller("toy", spec, home)
    wait_for_note(home, "ready")
    first.kill()
    first.wait()
    body = notes(home, "ready")[0][1]
    second = caller("toy", spec, home)
    wait_for_note(home, "ready", num=2)
    assert not is_alive(body)
    second.send_signal(signal.SIGINT)
    second.wait()


async def test_a_cancelled_caller_leaves_no_body_and_no_lease(home: Path) -> None:
    spec = ToySpec(manner=Manner.FORKS)
    for _ in range(2):  # the second time proves that the lease is free
        before = len(notes(home, "ready"))
        calling = asyncio.create_task(toy.compute(spec, placed(home)))
        await asyncio.to_thread(wait_for_note, home, "ready", before + 1)
        calling.cancel()
        await asyncio.wait({calling})
        assert calling.cancelled()
        assert not is_alive(notes(home, "ready")[-1][1])


async def test_a_caller_that_waits_can_be_cancelled_and_the_other_goes_on(home: Path) -> None:
    computing = asyncio.create_task(toy.compute(ToySpec(sleep_s=0.6), placed(home)))
    await asyncio.to_thread(wait_for_note, home, "start")
    waiting = asyncio.create_task(toy.compute(ToySpec(sleep_s=0.6), placed(home)))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert not (await computing).is_cached
    assert starts(home) == 1


async def test_a_callers_wait_for_another_is_said_and_is_none_of_its_time(home: Path) -> None:
    computing = asyncio.create_task(toy.compute(ToySpec(sleep_s=1.0), placed(home)))
    await asyncio.to_thread(wait_for_note, home, "start")
    witness, called_at = Witness(), time.monotonic()
    with observing(witness):
        found = await toy.compute(ToySpec(sleep_s=1.0), placed(home))
    waited_s = time.monotonic() - called_at - found.duration_s
    await computing
    assert found.is_cached
    (wait,) = witness.waits
    assert f"process {os.getpid()} on " in wait
    assert waited_s > 0.8
    assert witness.started_steps == []


async def test_a_steps_wait_for_its_turn_is_said_and_is_none_of_its_time(home: Path) -> None:
    witness, called_at = Witness(), time.monotonic()
    with observing(witness):
        async with turn(home, alone=True):
            calling = asyncio.create_task(toy.compute(ToySpec(), placed(home)))
            await asyncio.sleep(1.5)
            assert witness.started_steps == []
        computed = await calling
    waited_s = time.monotonic() - called_at - computed.duration_s
    assert witness.waits == ["a step that measures time, which runs alone"]
    assert witness.started_steps == ["toy"]
    assert waited_s > 1.2
    assert computed.record.provenance["duration_s"] <= computed.duration_s


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
