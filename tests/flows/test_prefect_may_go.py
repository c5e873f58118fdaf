"""A run keeps what it computes when Prefect's API dies, and ends when Prefect asks it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.states import Cancelling

from tasks.store import open_store
from tests.conftest import free_port
from tests.fakes.forwarder import Forwarder
from tests.fakes.small_disk import can_mount, server_on_small_disk

EXPERIMENT = """
experiment: {name: chain}
steps:
  one: {kind: command, script: python slow.py, inputs: {}}
  two: {kind: command, script: python slow.py two, inputs: {one: "${steps.one.outputs}"}}
"""
SLOW = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(os.environ["NOTES"], "a") as notes:
    print(os.getpid(), file=notes)
time.sleep(float(os.environ["LASTS_S"]))
open("out.txt", "w").write("done")
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    path = tmp_path / "chain.yaml"
    path.write_text(
        EXPERIMENT.replace(
            "inputs:", "placement: {environment: {NOTES: NOTES_PATH, LASTS_S: '1.5'}}, inputs:"
        ).replace("NOTES_PATH", str(tmp_path / "notes"))
    )
    return path


def start(experiment: Path, api_url: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PREFECT_API_URL": api_url, "PREFECT_CLIENT_MAX_RETRIES": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "flows", "run", str(experiment), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def body_pids(experiment: Path) -> list[int]:
    notes = experiment.with_name("notes")
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


def wait_for_body(experiment: Path, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not body_pids(experiment):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_api_that_dies_in_the_middle_of_a_step_costs_a_note_and_no_result(
    home: Path, experiment: Path, prefect_server: str
) -> None:
    port = urlsplit(prefect_server).port
    assert port is not None
    with Forwarder(port) as door:
        running = start(experiment, f"http://127.0.0.1:{door.port}/api")
        wait_for_body(experiment, running)
        door.slam()
        told, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    report = json.loads(told)
    assert report["status"] == "done"
    assert [step["state"] for step in report["steps"].values()] == ["done", "done"]
    assert "Traceback" not in errors
    run = json.loads(next((home / "runs").glob("*/run.json")).read_text())
    assert len(run["problems"]) == 1
    assert "Prefect's API" in run["problems"][0]
    again = start(experiment, prefect_server)
    told, errors = again.communicate(timeout=120)
    assert [step["state"] for step in json.loads(told)["steps"].values()] == ["cached", "cached"]
    assert len(body_pids(experiment)) == 2


def test_an_api_that_is_not_there_at_all_costs_a_note(home: Path, experiment: Path) -> None:
    running = start(experiment, "http://127.0.0.1:9/api")
    told, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert json.loads(told)["status"] == "done"
    run = json.loads(next((home / "runs").glob("*/run.json")).read_text())
    assert "Prefect's API at http://127.0.0.1:9/api did not answer" in run["problems"][0]


@pytest.mark.skipif(not can_mount(), reason="NO DISK CAN BE FILLED HERE: no tmpfs may be mounted")
@pytest.mark.parametrize("is_full_before", [True, False])
def test_an_api_whose_disk_is_full_costs_a_note_and_no_result(
    home: Path, experiment: Path, tmp_path: Path, is_full_before: bool
) -> None:
    """A real server whose SQLite has no room: reads are answered, every write with an error."""
    with server_on_small_disk(tmp_path / "disk", free_port()) as server:
        if is_full_before:
            server.fill_disk()
        running = start(experiment, server.api_url)
        wait_for_body(experiment, running)
        server.fill_disk()
        told, errors = running.communicate(timeout=120)
        assert server.is_up()
    assert running.returncode == 0, errors
    report = json.loads(told)
    assert report["status"] == "done"
    assert [step["state"] for step in report["steps"].values()] == ["done", "done"]
    assert "Traceback" not in errors
    assert any("Prefect's API" in problem for problem in report["problems"])
    store = open_store()
    for step in report["steps"].values():
        assert store.read_record("command", step["identity"]) is not None


async def test_cancelling_the_run_in_prefect_ends_its_body_and_then_the_run(
    home: Path, experiment: Path, prefect_server: str
) -> None:
    experiment.write_text(experiment.read_text().replace("'1.5'", "'60'"))
    running = start(experiment, prefect_server)
    wait_for_body(experiment, running)
    run_id = next((home / "runs").iterdir()).name
    async with get_client() as client:
        wanted = FlowRunFilter(name=FlowRunFilterName(like_=run_id))
        (flow_run,) = await client.read_flow_runs(flow_run_filter=wanted)
        await client.set_flow_run_state(flow_run.id, Cancelling(), force=True)
        told, errors = running.communicate(timeout=60)
        state = (await client.read_flow_run(flow_run.id)).state
    assert json.loads(told)["status"] == "cancelled", errors
    assert state is not None
    assert state.is_cancelled()
    assert "cancelled in Prefect" in (state.message or "")
    for pid in body_pids(experiment):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
