"""What goes wrong around the steps of a run: it still has an end, and is in no other run's way."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import flows.experiment.folder
import flows.experiment.run
from flows.cli.errors import explain
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
    resume_experiment,
    run_experiment,
)
from flows.experiment.execute import Call
from flows.experiment.folder import unfinished_runs
from flows.experiment.progress import RunState, StepWatch
from flows.experiment.record import StepReport
from flows.server import ServerState, port_words
from tasks.errors import LabwrightError, SpecError, StoreError
from tasks.observer import GOING_ON

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


def test_runs_that_cannot_be_listed_are_named_and_end_with_2(home: Path):
    (home / "runs").write_text("a file in place of the folder")
    for act in (all_runs, finish_abandoned, lambda: find_run("latest")):
        with pytest.raises(SpecError, match=r"/runs: cannot be listed: Not a directory; mend it"):
            act()


async def test_runs_that_are_barred_are_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await run(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(SpecError, match="cannot be listed: Permission denied"):
            list_runs(20, as_json=False)


async def test_a_report_that_cannot_be_read_is_a_damaged_run(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = find_run((await run(tmp_path)).id)
    folder.report_file.unlink()
    folder.report_file.mkdir()
    list_runs(20, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["status"] == "damaged"
    assert "run.json cannot be read: Is a directory" in row["problem"]


@pytest.mark.parametrize("file", ["experiment.yaml", "resolved.json", "run.json"])
async def test_a_run_that_cannot_be_written_down_leaves_no_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
):
    write = flows.experiment.folder.write_durably

    def refuse(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data, mode)

    monkeypatch.setattr(flows.experiment.folder, "write_durably", refuse)
    monkeypatch.setattr(flows.experiment.run, "write_durably", refuse)
    with pytest.raises(StoreError, match="No space left on device"):
        await run(tmp_path)
    assert list((home / "runs").iterdir()) == []


CANARIES = tuple(str(random.randrange(10**11, 10**12)) for _ in range(4))  # in no diff of ours


async def test_a_secret_given_by_set_is_kept_for_resume_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    overrides = [
        f"steps.one.environment.API_KEY=x{CANARIES[0]}",
        "steps.one.inputs={}",
        f"experiment.metadata={{service: {{password: {CANARIES[1]}}}}}",
        f"steps.one.config.token={CANARIES[2]}",
        f"experiment.metadata.auth={CANARIES[3]}",
        "steps.one.script=[python, -c, 'import os, sys; print(os.environ, sys.argv); 1/0']",
    ]
    path = tmp_path / "file.yaml"
    path.write_text(ONE)
    monkeypatch.setattr("sys.argv", ["labwright", "run", *(f"--set={o}" for o in overrides)])
    report = await run_experiment(load_experiment(path, overrides), call=call_directly)
    folder = find_run(report.id)
    assert report.status is RunStatus.FAILED
    kept = [file for file in home.rglob("*") if file.is_file()]
    for canary in CANARIES:
        assert [file.name for file in kept if canary.encode() in file.read_bytes()] == [
            "overrides.json"
        ]
    assert folder.overrides() == tuple(overrides)
    assert folder.overrides_file.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(report.bundle or "") as bundle:
        for name in bundle.namelist():
            assert not any(canary.encode() in bundle.read(name) for canary in CANARIES), name


async def test_a_resumed_run_has_the_overrides_as_they_were_typed(home: Path, tmp_path: Path):
    path, flag = tmp_path / "file.yaml", tmp_path / "flag"
    path.write_text(ONE)
    code = f"import os; open({str(flag)!r}); open('seen', 'w').write(os.environ['API_KEY'])"
    overrides = [
        "steps.one.environment.API_KEY=canary-0815",
        f'steps.one.script=[python, -c, "{code}"]',
    ]
    report = await run_experiment(load_experiment(path, overrides), call=call_directly)
    assert report.status is RunStatus.FAILED
    flag.touch()
    folder = find_run(report.id)
    again = await resume_experiment(folder, call=call_directly)
    assert again.status is RunStatus.DONE
    objects = [file.read_bytes() for file in home.glob("objects/*/*") if file.is_file()]
    assert b"canary-0815" in objects, "the script did not see what was typed"
    assert not folder.overrides_file.exists(), "a run that is done is not resumed any more"


async def test_a_run_whose_overrides_are_gone_is_not_resumed_with_others(
    home: Path, tmp_path: Path
):
    path = tmp_path / "file.yaml"
    path.write_text(ONE)
    overrides = ["steps.one.script=[python, -c, '1/0']"]
    report = await run_experiment(load_experiment(path, overrides), call=call_directly)
    folder = find_run(report.id)
    folder.overrides_file.unlink()
    with pytest.raises(SpecError, match=r"overrides\.json is gone"):
        await resume_experiment(folder, call=call_directly)


async def test_a_step_that_did_not_start_says_why_in_plain_words(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stumble(*_: object) -> None:
        raise KeyError("surprise")

    with monkeypatch.context() as patch:
        patch.setattr(flows.experiment.run, "plan", stumble)
        with pytest.raises(KeyError):
            await run(tmp_path)
    assert the_run()[1].steps["one"].error == "not started: the run ended with an error"

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

    monkeypatch.setattr(flows.experiment.run, "plan", stop)
    report = await run(tmp_path)
    assert report.steps["one"].error == "not started: the run was cancelled"


@pytest.mark.parametrize(("is_absent", "lines"), [(True, 1), (False, 0)])
async def test_the_start_of_the_server_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_absent: bool, lines: int
):
    said: list[str] = []

    class Hearing(Watcher):
        def said(self, message: str) -> None:
            said.append(message)

    def refuse(*_: object) -> str:
        raise LabwrightError("no server in this test")

    monkeypatch.delitem(__import__("sys").modules, "prefect", raising=False)
    monkeypatch.setattr("flows.server.will_start", lambda: is_absent)
    monkeypatch.setattr("flows.server.ensure_server", refuse)
    with pytest.raises(LabwrightError):
        await run(tmp_path, ONE, None, Hearing())
    assert said == ["starting the Prefect server …"] * lines


@pytest.mark.parametrize(
    ("port", "words"),
    [(4200, ""), (4317, "port 4200 is taken: the Prefect server is at http://127.0.0.1:4317")],
)
def test_a_server_on_another_port_than_asked_for_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, port: int, words: str
):
    monkeypatch.setenv("LABWRIGHT_SERVER_PORT", "4200")
    ServerState(port, os.getpid(), 0, "token").write(home)
    assert port_words() == words


async def test_the_gap_before_a_resume_is_no_time_of_the_run(home: Path, tmp_path: Path):
    text = ONE.replace("script: echo", "script: [test, -e, there]")
    failed = await run(tmp_path, text)
    assert failed.status is RunStatus.FAILED
    assert failed.seconds is not None
    folder = find_run(failed.id)
    early = {"started": failed.started - timedelta(hours=1), "seconds": 100.0}
    folder.write(failed.model_copy(update=early))
    again = await resume_experiment(folder, call=call_directly)
    assert again.seconds is not None
    assert 100 < again.seconds < 160


def test_a_killed_run_took_until_its_last_sign_of_life(home: Path, tmp_path: Path):
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    folder = RunFolder.create()
    with folder.held():
        folder.write(
            RunReport(
                id=folder.id, name="one", file=str(tmp_path / "file.yaml"), started=hour_ago,
                steps={"one": StepReport(kind="command")},
            )
        )  # fmt: skip
    died = hour_ago.timestamp() + 60
    os.utime(folder.report_file, (died, died))
    (report,) = finish_abandoned()
    assert report.status is RunStatus.KILLED
    assert report.seconds == pytest.approx(60, abs=0.01)
    assert report.ended == datetime.fromtimestamp(died, UTC)


def test_from_where_a_body_goes_on_is_told(home: Path, tmp_path: Path):
    class Heard(Watcher):
        def __init__(self) -> None:
            self.words: list[str] = []

        def said(self, message: str) -> None:
            self.words.append(message)

    folder = RunFolder.create()
    report = RunReport(
        id=folder.id, name="one", file="file.yaml", started=datetime.now(UTC),
        steps={"train": StepReport(kind="train")},
    )  # fmt: skip
    heard = Heard()
    with RunState.opened(folder, report, [heard]) as state:
        watch = StepWatch(state, "train")
        watch.output("stderr", "loading")
        watch.output("stderr", f"{GOING_ON}the checkpoint after step 300 of 1000")
    assert heard.words == ["train: going on from the checkpoint after step 300 of 1000"]


async def test_the_first_reason_is_raised_and_what_followed_stands_beside_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(error: Exception) -> Any:
        raise error

    monkeypatch.setattr(
        flows.experiment.run, "plan", lambda *_: fail(StoreError("the store is gone"))
    )
    monkeypatch.setattr(
        flows.experiment.run, "finish", lambda *_: fail(OSError(28, "No space left"))
    )
    with pytest.raises(StoreError) as caught:
        await run(tmp_path, ONE)
    assert explain(caught.value) == 1
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first == "error: the store is gone"
    assert second.strip().startswith("nor could the run be finished: OSError")
    assert "No space left" in second
