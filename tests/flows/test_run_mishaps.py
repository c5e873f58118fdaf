"""What goes wrong around the steps of a run: it still has an end, and is in no other run's way."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import flows.experiment.folder
import flows.experiment.run
from flows.cli.show import list_runs, show_lineage, show_run
from flows.experiment import (
    RunFolder,
    RunReport,
    RunStatus,
    StepState,
    Watcher,
    all_runs,
    call_directly,
    find_run,
    finish_abandoned,
    load_experiment,
    run_experiment,
)
from flows.experiment.execute import Call
from flows.experiment.folder import unfinished_runs
from tasks.errors import LabwrightError, SpecError, StoreError

ONE = "experiment: {name: one}\nsteps:\n  one: {kind: command, script: echo, inputs: {}}\n"


class Ending(Watcher):
    """Notes whether it was told that nothing more will come."""

    is_closed = False

    def closed(self) -> None:
        self.is_closed = True


async def run(
    folder: Path, text: str = ONE, call: Call | None = call_directly, *watchers: Watcher
) -> RunReport:
    path = folder / "file.yaml"
    path.write_text(text)
    return await run_experiment(load_experiment(path), watchers, call=call)


def the_run() -> tuple[RunFolder, RunReport]:
    (folder,) = all_runs()
    report = folder.read()
    assert report is not None
    return folder, report


async def test_what_goes_wrong_outside_of_the_steps_ends_the_run_and_is_raised(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise SpecError("the plan cannot be made")

    monkeypatch.setattr(flows.experiment.run, "plan", refuse)
    watcher = Ending()
    with pytest.raises(SpecError, match="the plan cannot be made"):
        await run(tmp_path, ONE, call_directly, watcher)
    _, report = the_run()
    assert report.status is RunStatus.FAILED
    assert report.steps["one"].state is StepState.CANCELLED
    assert report.problems == ("the plan cannot be made",)
    assert zipfile.is_zipfile(report.bundle or "")
    assert unfinished_runs() == []
    assert watcher.is_closed


async def test_a_bug_of_ours_ends_the_run_as_well(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stumble(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(flows.experiment.run, "plan", stumble)
    with pytest.raises(KeyError):
        await run(tmp_path)
    _, report = the_run()
    assert report.status is RunStatus.FAILED
    assert report.problems == ("KeyError: 'surprise'",)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_before_the_first_step_cancels_the_run_and_leaves_a_bundle(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
):
    def slow(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.3)

    monkeypatch.setattr(flows.experiment.run, "plan", slow)
    handler = signal.getsignal(number)
    report = await run(tmp_path)
    assert report.status is RunStatus.CANCELLED
    assert zipfile.is_zipfile(report.bundle or "")
    assert signal.getsignal(number) is handler


async def test_a_signal_ends_the_wait_for_the_server(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[bool] = []

    def never_ready(is_wanted: Any) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 20
        while is_wanted() and time.monotonic() < deadline:
            time.sleep(0.02)
        seen.append(is_wanted())
        raise LabwrightError("not wanted")

    monkeypatch.delitem(__import__("sys").modules, "prefect", raising=False)
    monkeypatch.setattr("flows.server.ensure_server", never_ready)
    report = await run(tmp_path, ONE, None)
    assert report.status is RunStatus.CANCELLED
    deadline = time.monotonic() + 5
    while not seen and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen == [False]


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, once_it_says: bytes) -> None:
    """From the first report with these words on, no report can be written."""
    is_full = False
    write = flows.experiment.folder.write_durably

    def write_or_refuse(path: Path, data: bytes, mode: int = 0o644) -> None:
        nonlocal is_full
        is_full = is_full or once_it_says in data
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data, mode)

    monkeypatch.setattr(flows.experiment.folder, "write_durably", write_or_refuse)


async def test_a_full_disk_is_raised_in_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill_the_disk(monkeypatch, b'"state": "running"')
    with pytest.raises(StoreError, match="No space left on device; free some space"):
        await run(tmp_path)


async def test_a_full_disk_is_raised_in_words_through_prefect_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str
):
    fill_the_disk(monkeypatch, b'"state": "running"')
    with pytest.raises(StoreError, match="No space left on device"):
        await run(tmp_path, ONE, None)


async def test_a_damaged_run_is_a_row_of_its_own_and_in_nobodys_way(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = await run(tmp_path)
    damaged = await run(tmp_path)
    find_run(damaged.id).report_file.write_text('{"id": "x", "colour": "blue"}')
    third = await run(tmp_path)
    assert third.status is RunStatus.DONE
    assert third.parent == first.id
    list_runs(20, as_json=True)
    rows = {row["id"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert rows == {first.id: "done", damaged.id: "damaged", third.id: "done"}
    list_runs(20, as_json=False)
    assert "damaged" in capsys.readouterr().out
    show_run("latest", as_json=False)
    show_lineage(third.id, as_json=False)
    with pytest.raises(StoreError, match="damaged"):
        show_run(damaged.id, as_json=False)


async def test_a_damaged_unfinished_run_is_warned_of_and_left(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    dead = await run(tmp_path)
    folder = find_run(dead.id)
    (folder.path / "lock").touch()
    folder.report_file.write_text("{")
    assert (await run(tmp_path)).status is RunStatus.DONE
    assert f"run {dead.id} cannot be finished" in caplog.text


async def test_a_dead_run_with_a_damaged_journal_is_finished_and_its_journal_kept(
    home: Path, tmp_path: Path
):
    folder = find_run((await run(tmp_path)).id)
    (folder.path / "lock").touch()
    folder.report_file.write_text(folder.report_file.read_text().replace('"done"', '"running"'))
    folder.journal.write_text("not an entry\n" + folder.journal.read_text())
    (report,) = finish_abandoned()
    assert report.status is RunStatus.KILLED
    assert "journal.jsonl:1" in report.problems[0]
    aside = folder.path / "journal.damaged.jsonl"
    assert aside.read_text().startswith("not an entry\n")


async def test_a_parent_that_does_not_exist_is_found_before_there_is_a_run(
    home: Path, tmp_path: Path
):
    await run(tmp_path)
    with pytest.raises(SpecError, match=r"file\.yaml:1:\d+: experiment\.parent: there is no run"):
        await run(tmp_path, ONE.replace("{name: one}", "{name: one, parent: 7Z}"))
    assert len(all_runs()) == 1
    assert len(list((home / "runs").iterdir())) == 1


def test_a_new_run_waits_for_whoever_looks_at_its_lock(home: Path):
    folder = RunFolder.create()
    is_held, may_go, order = threading.Event(), threading.Event(), []

    def look() -> None:
        with folder.held() as is_mine:
            assert is_mine
            is_held.set()
            may_go.wait(10)
            order.append("looked")

    looker = threading.Thread(target=look)
    looker.start()
    assert is_held.wait(10)
    with folder.held() as is_mine:
        assert not is_mine
    threading.Timer(0.2, may_go.set).start()
    with folder.held(wait=True) as is_mine:
        assert is_mine
        order.append("ran")
    looker.join()
    assert order == ["looked", "ran"]


async def test_a_secret_typed_in_the_file_is_not_in_the_bundle(home: Path, tmp_path: Path):
    token = "hf_" + "a1B2" * 8
    text = ONE.replace(
        "inputs: {}", f"inputs: {{}}, environment: {{HF: {token}, MY_PASSWORD: correct-horse}}"
    )
    report = await run(tmp_path, text)
    folder = find_run(report.id)
    with zipfile.ZipFile(report.bundle or "") as bundle:
        kept = {name: bundle.read(name) for name in bundle.namelist()}
    for name in ("spec/experiment.yaml", "spec/resolved.json", "run.json", "journal.jsonl"):
        assert token.encode() not in kept[name], name
        assert b"correct-horse" not in kept[name], name
    assert b"MY_PASSWORD: ***" in kept["spec/experiment.yaml"]
    assert (folder.spec / "experiment.yaml").stat().st_mode & 0o077 == 0
