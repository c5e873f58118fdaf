"""What a step costs besides its body: cached against a bare Prefect task, computed against by hand.

Everything runs against a real server, and in turns, so that a busy machine slows both sides.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tasks.spec import Placement
from tests.fakes.figures import Figure
from tests.fakes.steps import CountSpec, ToySpec, count, toy

NUM_CACHED, NUM_COMPUTED = 30, 5
CACHED_AIM_MS, COMPUTED_AIM_MS = 20.0, 250.0


async def test_cost_of_a_cached_step_over_a_bare_prefect_task(
    home: Path, prefect_server: str, figure: Figure
) -> None:
    from prefect import flow, task

    @task(persist_result=False)
    async def bare(spec: ToySpec, placement: Placement) -> ToySpec:
        return spec

    bare_ms: list[float] = []
    cached_ms: list[float] = []
    store_ms: list[float] = []

    @flow(persist_result=False)
    async def measure() -> None:
        await toy(ToySpec(), Placement())
        for _ in range(NUM_CACHED):
            started = time.perf_counter()
            await bare(ToySpec(), Placement())
            bare_ms.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            await toy(ToySpec(), Placement())
            cached_ms.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            assert (await toy.compute(ToySpec())).is_cached
            store_ms.append(1000 * (time.perf_counter() - started))

    await measure()
    bare_task, cached, store = map(statistics.median, (bare_ms, cached_ms, store_ms))
    figure(
        f"cached step over a bare task, median of {NUM_CACHED}",
        f"{cached - bare_task:.1f} ms, {store:.1f} ms of it in the store",
        aim=f"at most {CACHED_AIM_MS:g} ms",
        ratio=cached / bare_task,
    )


async def test_cost_of_a_computed_step_over_its_body_by_hand(
    home: Path, prefect_server: str, tmp_path: Path, figure: Figure
) -> None:
    from prefect import flow

    by_hand_ms: list[float] = []
    step_ms: list[float] = []
    store_ms: list[float] = []

    @flow(persist_result=False)
    async def measure() -> None:
        await count(CountSpec(num_units=1), Placement())
        for number in range(NUM_COMPUTED):
            started = time.perf_counter()
            run_by_hand(CountSpec(num_units=100 + number), tmp_path / f"{number}")
            by_hand_ms.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            await count(CountSpec(num_units=200 + number), Placement())
            step_ms.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            assert not (await count.compute(CountSpec(num_units=300 + number))).is_cached
            store_ms.append(1000 * (time.perf_counter() - started))

    await measure()
    by_hand, step, store = map(statistics.median, (by_hand_ms, step_ms, store_ms))
    figure(
        f"computed step over its body by hand, median of {NUM_COMPUTED}",
        f"{step - by_hand:.0f} ms, {store - by_hand:.0f} ms without Prefect",
        aim=f"at most {COMPUTED_AIM_MS:g} ms",
        ratio=step / by_hand,
    )


def run_by_hand(spec: CountSpec, folder: Path) -> None:
    """What anybody would type."""
    (folder / "out").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    request = {
        "spec": spec.model_dump(mode="json"),
        "inputs": {},
        "checkpoints": str(folder / "checkpoints"),
    }
    (folder / "request.json").write_text(json.dumps(request))
    subprocess.run(
        [sys.executable, "-P", "-m", count.body, folder / "request.json", folder / "out"],
        check=True,
        capture_output=True,
    )
