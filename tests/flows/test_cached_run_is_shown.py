"""A fully cached run is shown in a server that is up, and is not held up by one that is not."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows.experiment import (
    RunReport,
    RunStatus,
    call_directly,
    find_run,
    load_experiment,
    run_experiment,
)

TWO = """
experiment: {name: two}
steps:
  one: {kind: command, script: echo, inputs: {}}
  two: {kind: command, script: echo, inputs: {one: "${steps.one.outputs}"}}
"""


@pytest.fixture
async def computed(home: Path, tmp_path: Path) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(TWO)
    report = await run_experiment(load_experiment(path), call=call_directly)
    assert report.status is RunStatus.DONE
    return path


async def again(path: Path) -> RunReport:
    report = await run_experiment(load_experiment(path))
    assert report.status is RunStatus.DONE
    assert {step.state.value for step in report.steps.values()} == {"cached"}
    return report


async def test_a_cached_run_is_shown_in_a_server_that_is_up(computed: Path, prefect_server: str):
    report = await again(computed)
    assert report.problems == ()
    async with get_client() as client:
        wanted = FlowRunFilter(name=FlowRunFilterName(like_=report.id))
        (flow_run,) = await client.read_flow_runs(flow_run_filter=wanted)
        task_runs = await client.read_task_runs(flow_run_filter=wanted)
    assert flow_run.name == f"two {report.id}"
    assert flow_run.state is not None
    assert flow_run.state.is_completed()
    assert {run.name: run.state_name for run in task_runs} == {"one": "Cached", "two": "Cached"}
    ids = {run.name: run.id for run in task_runs}
    (two,) = (run for run in task_runs if run.name == "two")
    assert [str(found.id) for found in two.task_inputs["wait_for"]] == [str(ids["one"])]


async def test_an_api_that_hangs_costs_a_second_and_a_note(
    computed: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        began = time.monotonic()
        report = await again(computed)
        assert time.monotonic() - began < 3.0
    (problem,) = report.problems
    assert "Prefect's API" in problem
    assert find_run(report.id).read() == report


async def test_without_a_server_nothing_is_started_and_nothing_is_missed(
    computed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    report = await again(computed)
    assert report.problems == ()
    assert not (home / "server.json").exists()
