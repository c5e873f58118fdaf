"""What Prefect shows of steps, asked from a real server; and that it decides nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext

from tasks.errors import StepFailed
from tests.fakes.steps import CountSpec, Manner, ToySpec, count, placed, starts, toy

pytestmark = pytest.mark.usefixtures("prefect_server")

TOLD_WITHIN_S = 20.0  # Prefect sends logs and events in the background


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


async def run_in_flow(body: Callable[[], Awaitable[Any]]) -> tuple[UUID, Any]:
    """As the only content of a flow; returns the id of its run, and what it returned."""
    found: list[Any] = []

    @flow(name="toys", persist_result=False)
    async def toys() -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        found.append(context.flow_run.id)
        found.append(await body())

    await toys(return_state=True)
    return found[0], found[1] if len(found) > 1 else None


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + TOLD_WITHIN_S
    while not (answer := await ask()):
        assert time.monotonic() < deadline, "Prefect was not told"
        await asyncio.sleep(0.1)
    return answer


async def task_runs(client: PrefectClient, run: UUID, num: int) -> dict[str, TaskRun]:
    """The finished tasks of a flow run by the name of their step, once they are `num`."""

    async def ask() -> dict[str, TaskRun]:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        found = await client.read_task_runs(flow_run_filter=wanted)
        finished = [task for task in found if task.state and task.state.is_final()]
        return {task.name: task for task in finished} if len(finished) >= num else {}

    runs: dict[str, TaskRun] = await until(ask)
    return runs


async def test_a_hit_is_shown_as_cached_and_its_value_is_the_result(
    home: Path, client: PrefectClient
) -> None:
    async def twice() -> list[Any]:
        return [await toy(ToySpec(), placed(home)), await toy(ToySpec(), placed(home))]

    run, (first, second) = await run_in_flow(twice)
    assert first == second
    assert first.number > 0
    assert starts(home) == 1
    tasks = await task_runs(client, run, 2)
    states = [task.state for task in tasks.values() if task.state]
    assert sorted(state.name or "" for state in states) == ["Cached", "Completed"]
    cached = next(state for state in states if state.name == "Cached")
    assert "was computed before" in (cached.message or "")
    assert cached.is_completed()
    assert all(is_empty(state.data) for state in states), "no result goes to Prefect"
    assert not list((home.parent).rglob("storage/*"))


def is_empty(data: Any) -> bool:
    """Whether a state's data as the server has it names no stored result."""
    return data is None or getattr(data, "storage_key", "") in ("", None) or not_stored(data)


def not_stored(data: Any) -> bool:
    return (
        getattr(data, "serialize_to_none", False)
        or not Path(str(getattr(data, "storage_key", ""))).exists()
    )


async def test_output_progress_artifacts_and_reports_are_shown(
    home: Path, client: PrefectClient
) -> None:
    spec = CountSpec(num_units=3, unit_s=0.3, loss=2.5)
    run, result = await run_in_flow(lambda: count(spec, placed(home)))

    async def lines() -> list[str]:
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        told = [log.message for log in await client.read_logs(wanted)]
        return told if "counting from 0" in told else []

    told = await until(lines)
    assert any(re.fullmatch(r"count [0-9a-f]{12}: computing", line) for line in told)

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    artifacts = {found.key: found for found in await client.read_artifacts(artifact_filter=wanted)}
    assert set(artifacts) == {"count-progress", "count-artifacts", "count-report"}
    assert artifacts["count-progress"].data == 100.0
    assert result.report.digest in str(artifacts["count-artifacts"].data)
    report = artifacts["count-report"]
    assert report.type == "markdown"
    assert str(report.data).startswith("| units | note |\n| --- | --- |\n| 3 | a\\|b |\n")
    page = re.search(r"^    (/.+index.html)$", str(report.data), re.MULTILINE)
    assert page is not None
    assert "3 units" in Path(page[1]).read_text()


async def test_the_order_of_steps_is_shown_as_edges(home: Path, client: PrefectClient) -> None:
    async def chain() -> Any:
        first = await toy(ToySpec(seed=1), placed(home))
        spec = ToySpec(seed=2, source=first.folder)
        cached = await toy(ToySpec(seed=1), placed(home))
        return await toy(spec, placed(home), wait_for=[first, cached], name="second")

    run, _ = await run_in_flow(chain)
    tasks = await task_runs(client, run, 3)
    upstream = {entry.id for entry in tasks["second"].task_inputs["wait_for"]}  # type: ignore[union-attr]
    others = {task.id for name, task in tasks.items() if name != "second"}
    assert upstream == others


async def test_a_failure_is_shown_in_its_words(home: Path, client: PrefectClient) -> None:
    async def fail() -> str:
        with pytest.raises(StepFailed) as caught:
            await count(CountSpec(fails_with="the moon is in the wrong phase"), placed(home))
        return str(caught.value)

    run, words = await run_in_flow(fail)
    (task,) = (await task_runs(client, run, 1)).values()
    assert task.state is not None
    assert task.state.is_failed()
    assert "the moon is in the wrong phase" in (task.state.message or "")
    assert "logs: " in words
    assert starts(home) == 1, "a step is not retried behind anybody's back"


async def test_a_progress_bar_does_not_flood_prefect() -> None:
    from tasks.prefect_task import LineBudget

    budget = LineBudget(per_s=0.0, at_once=10.0)
    assert [budget.take() for _ in range(25)] == [True] * 10 + [False] * 15
    assert (budget.forget_left_out(), budget.forget_left_out()) == (15, 0)


async def test_artifacts_that_hang_cost_one_warning_and_a_few_seconds(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.prefect_task as shown

    calls = []

    async def hang(**fields: Any) -> None:
        calls.append(fields["key"])
        await asyncio.sleep(60)

    for name in (
        "acreate_progress_artifact",
        "acreate_table_artifact",
        "acreate_markdown_artifact",
    ):
        monkeypatch.setattr(shown, name, hang)
    monkeypatch.setattr(shown, "SHOW_TIMEOUT_S", 0.3)
    started = time.monotonic()
    spec = CountSpec(num_units=20, unit_s=0.05)
    _, result = await run_in_flow(lambda: count(spec, placed(home)))
    assert result.num_units == 20
    assert calls == ["count-progress"], "after one that hangs, Prefect is left alone"
    assert time.monotonic() - started < 10


async def test_cancelling_the_task_kills_the_body(home: Path) -> None:
    from tests.fakes.steps import notes
    from tests.faults.test_step_once import is_alive, wait_for_note

    async def start_and_cancel() -> bool:
        spec = ToySpec(manner=Manner.FORKS)
        calling = asyncio.ensure_future(toy(spec, placed(home)))
        await asyncio.to_thread(wait_for_note, home, "ready")
        calling.cancel()
        await asyncio.wait({calling})
        return calling.cancelled()

    _, was_cancelled = await run_in_flow(start_and_cancel)
    assert was_cancelled
    assert not is_alive(notes(home, "ready")[0][1])
