"""A run from its file to its bundle: order, caching, failure, death, lineage. Bodies are real."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import ulid

from flows.experiment import (
    DeliverableState,
    RunFolder,
    RunReport,
    RunStatus,
    StepState,
    all_runs,
    call_directly,
    find_run,
    finish_abandoned,
    load_experiment,
    look_up,
    plan,
    resume_experiment,
    run_experiment,
)
from flows.experiment.lineage import ancestors
from flows.experiment.plan import PlanState
from tasks.errors import SpecError
from tasks.store import open_store
from tasks.store.journal import read_journal
from tests.conftest import marked_processes

WRITE = """
import sys
from pathlib import Path
name, *words = sys.argv[1:]
Path(name).write_text(" ".join(words))
print("wrote", name)
"""
CHAIN = """
experiment: {name: chain}
steps:
  one: {kind: command, script: python write.py out.txt 1, inputs: {}}
  two: {kind: command, script: python write.py out.txt 2, inputs: {one: "${steps.one.outputs}"}}
deliverables:
  - {type: two, artifact: "${steps.two.outputs}", path: out.txt}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LABWRIGHT_HOME", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "write.py").write_text(WRITE)
    return folder


async def run(project: Path, text: str, *overrides: str) -> RunReport:
    path = project / "file.yaml"
    path.write_text(text)
    return await run_experiment(load_experiment(path, overrides), call=call_directly)


def states(report: RunReport) -> dict[str, str]:
    return {name: step.state.value for name, step in report.steps.items()}


async def test_a_run_leaves_its_report_journal_and_bundle(project: Path):
    report = await run(project, CHAIN)
    assert report.status is RunStatus.DONE
    assert states(report) == {"one": "done", "two": "done"}
    folder = find_run(report.id)
    assert folder.read() == report
    events = [entry["event"] for entry in read_journal(folder.journal).entries]
    assert events == ["started", "running", "done", "running", "done", "ended"]
    with zipfile.ZipFile(folder.bundle) as bundle:
        names = set(bundle.namelist())
        manifest = json.loads(bundle.read("MANIFEST.json"))
    assert {entry["path"] for entry in manifest["files"]} == names - {"MANIFEST.json"}
    assert {
        "run.json",
        "spec/experiment.yaml",
        "spec/resolved.json",
        "logs/one/stdout.txt",
        "logs/two/stderr.txt",
        "provenance/one.json",
        "deliverables/two/out.txt",
    } <= names
    assert (folder.logs / "one" / "stdout.txt").read_text() == "wrote out.txt\n"


async def test_a_second_run_is_answered_from_its_plan_and_needs_no_prefect(project: Path):
    first = await run(project, CHAIN)

    async def refuse(*_: object) -> None:
        raise AssertionError("no step should be called")

    second = await run_experiment(load_experiment(project / "file.yaml"), call=refuse)
    assert states(second) == {"one": "cached", "two": "cached"}
    assert second.status is RunStatus.DONE
    assert second.id != first.id
    assert second.parent == first.id
    assert Path(second.bundle or "").exists()
    assert (find_run(second.id).logs / "one" / "stdout.txt").read_text() == "wrote out.txt\n"


async def test_a_plan_says_what_is_cached_and_what_will_run(project: Path):
    await run(project, CHAIN)
    changed = load_experiment(project / "file.yaml", ["steps.one.script=python write.py out.txt 9"])
    found = plan(changed, look_up)
    assert [planned.state for planned in found.steps.values()] == [
        PlanState.WILL_RUN,
        PlanState.DEPENDS,
    ]
    changed = load_experiment(project / "file.yaml", ["steps.two.script=python write.py out.txt 9"])
    found = plan(changed, look_up)
    assert [planned.state for planned in found.steps.values()] == [
        PlanState.CACHED,
        PlanState.WILL_RUN,
    ]


async def test_a_changed_script_is_run_again(project: Path):
    first = await run(project, CHAIN)
    (project / "write.py").write_text(WRITE + "\nprint('more')\n")
    second = await run(project, CHAIN)
    assert states(second)["one"] == "done"
    assert second.steps["one"].identity != first.steps["one"].identity


async def test_the_folder_of_the_file_is_no_part_of_an_identity(project: Path, tmp_path: Path):
    await run(project, CHAIN)
    project.rename(tmp_path / "moved")
    moved = await run(tmp_path / "moved", CHAIN)
    assert states(moved) == {"one": "cached", "two": "cached"}


async def test_a_damaged_deliverable_is_computed_again_and_never_served(project: Path):
    first = await run(project, CHAIN)
    record = open_store().read_record("command", first.steps["two"].identity or "")
    assert record is not None
    manifest = open_store().manifest(record.artifacts[0])
    digest = manifest.files[0].sha256
    stored = find_run(first.id).path.parent.parent / "objects" / digest[:2] / digest
    stored.chmod(0o644)
    stored.write_bytes(b"x" * stored.stat().st_size)
    second = await run(project, CHAIN)
    assert states(second)["two"] == "done"
    assert second.status is RunStatus.DONE
    assert Path(second.deliverables["two"].path or "").read_text() == "2"


async def test_what_depends_on_a_failure_is_skipped_and_the_rest_goes_on(project: Path):
    report = await run(
        project,
        "steps:\n"
        '  bad: {kind: command, script: [python, -c, "print(5); exit(3)"], inputs: {}}\n'
        '  after: {kind: command, script: echo, inputs: {x: "${steps.bad.outputs}"}}\n'
        '  last: {kind: command, script: echo, inputs: {x: "${steps.after.outputs}"}}\n'
        "  other: {kind: command, script: echo, inputs: {}}\n"
        "deliverables:\n"
        '  - {type: late, artifact: "${steps.last.outputs}"}\n',
    )
    assert report.status is RunStatus.FAILED
    assert report.status.exit_status == 1
    assert states(report) == {
        "bad": "failed",
        "after": "skipped",
        "last": "skipped",
        "other": "done",
    }
    assert "script exited with 3" in (report.steps["bad"].error or "")
    assert report.deliverables["late"].state is DeliverableState.MISSING
    with zipfile.ZipFile(report.bundle or "") as bundle:
        assert bundle.read("logs/bad/stdout.txt") == b"5\n"


WRONG_ONCE_KNOWN = """
steps:
  one: {kind: command, script: python write.py out.txt 1, inputs: {}}
  bad: {kind: prepare, text: {source: "${steps.one.outputs}"},
        heldout: {num_choices: "${steps.one.num_files}"}}
  after: {kind: command, script: echo, inputs: {}, after: [bad]}
  other: {kind: command, script: python write.py out.txt 3, inputs: {}}
"""


async def test_a_spec_that_a_result_makes_wrong_fails_its_step_on_every_run(project: Path):
    first = await run(project, WRONG_ONCE_KNOWN)
    assert states(first) == {"one": "done", "bad": "failed", "after": "skipped", "other": "done"}
    found = plan(load_experiment(project / "file.yaml"), look_up)
    assert found.steps["bad"].state is PlanState.CANNOT_RUN
    assert "steps.bad.heldout.num_choices: must be at least 2" in found.steps["bad"].reason
    assert found.steps["after"].state is PlanState.HELD_BACK
    again = await run(project, WRONG_ONCE_KNOWN, "steps.other.script=python write.py out.txt 2")
    assert states(again) == states(first) | {"one": "cached"}, "the other one is run all the same"
    assert again.steps["bad"].error == first.steps["bad"].error
    assert again.status is first.status is RunStatus.FAILED


async def test_a_step_past_its_deadline_fails_and_its_logs_are_kept(project: Path):
    report = await run(
        project,
        "steps:\n"
        "  slow:\n"
        "    kind: command\n"
        '    script: [python, -c, "import time; print(1, flush=True); time.sleep(60)"]\n'
        "    inputs: {}\n"
        "    placement: {timeout_s: 2}\n",
    )
    assert report.status is RunStatus.FAILED
    assert "deadline of 2 s" in (report.steps["slow"].error or "")
    with zipfile.ZipFile(report.bundle or "") as bundle:
        assert bundle.read("logs/slow/stdout.txt") == b"1\n"


async def test_an_unmet_deliverable_is_a_partial_success_and_exit_status_1(project: Path):
    report = await run(project, CHAIN + '  - {type: no, artifact: "${steps.two.outputs}", path: n}')
    assert report.status is RunStatus.PARTIAL_SUCCESS
    assert report.status.exit_status == 1
    assert report.deliverables["two"].state is DeliverableState.DELIVERED
    assert report.deliverables["no"].state is DeliverableState.MISSING


async def test_independent_steps_run_side_by_side(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABWRIGHT_MAX_PARALLEL_STEPS", "2")
    meet = (
        "import pathlib, sys, time; here, there = sys.argv[1:]; pathlib.Path(here).touch()\n"
        "while not pathlib.Path(there).exists(): time.sleep(0.02)"
    )
    (project / "meet.py").write_text(meet)
    a, b = project / "a", project / "b"
    report = await run(
        project,
        "steps:\n"
        f"  a: {{kind: command, script: python meet.py {a} {b}, placement: {{timeout_s: 20}}}}\n"
        f"  b: {{kind: command, script: python meet.py {b} {a}, placement: {{timeout_s: 20}}}}\n",
    )
    assert states(report) == {"a": "done", "b": "done"}


async def test_without_declared_inputs_a_result_serves_its_own_run_only(project: Path):
    text = (
        "steps:\n"
        "  free: {kind: command, script: python write.py out.txt 1}\n"
        '  gate: {kind: command, script: "test -e ${experiment.metadata.gate}", '
        'inputs: {x: "${steps.free.outputs}"}}\n'
        f"experiment: {{metadata: {{gate: {project / 'gate'}}}}}\n"
    )
    failed = await run(project, text)
    assert states(failed) == {"free": "done", "gate": "failed"}
    again = await run(project, text)
    assert states(again)["free"] == "done"
    (project / "gate").touch()
    resumed = await resume_experiment(find_run(failed.id), call=call_directly)
    assert resumed.id == failed.id
    assert resumed.status is RunStatus.DONE
    assert states(resumed) == {"free": "cached", "gate": "done"}
    with pytest.raises(SpecError, match="is done"):
        await resume_experiment(find_run(failed.id), call=call_directly)


async def test_cancelling_ends_the_body_and_leaves_a_bundle(project: Path):
    (project / "file.yaml").write_text(
        "steps:\n"
        "  nap: {kind: command, script: [python, -c, 'import time; time.sleep(60)'], inputs: {}}\n"
        '  after: {kind: command, script: echo, inputs: {x: "${steps.nap.outputs}"}}\n'
    )
    experiment = load_experiment(project / "file.yaml")
    running = asyncio.create_task(run_experiment(experiment, call=call_directly))
    while not all_runs() or all_runs()[0].read().steps["nap"].state is not StepState.RUNNING:  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
    running.cancel()
    report = await running
    assert report.status is RunStatus.CANCELLED
    assert states(report) == {"nap": "cancelled", "after": "cancelled"}
    assert Path(report.bundle or "").exists()


DRIVER = """
import asyncio, sys
from pathlib import Path
from flows.experiment import call_directly, load_experiment, run_experiment
report = asyncio.run(run_experiment(load_experiment(Path(sys.argv[1])), call=call_directly))
print(report.status.value)
"""


def start(project: Path, text: str, home: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own, past the beginning of the step that prints `begun`."""
    (project / "file.yaml").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(project / "file.yaml")], stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(home.glob("staging/*/out/work/begun")) and not list(home.rglob("work/begun")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait until its supervisor has ended what it started."""
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any("tasks.command.body" in command for command in marked_commands()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def marked_commands() -> list[str]:
    """The command lines of processes that this test session started."""
    paths = [Path(f"/proc/{pid}/cmdline") for pid in marked_processes()]
    return [path.read_bytes().replace(b"\0", b" ").decode() for path in paths if path.exists()]


NAP = """
steps:
  quick: {kind: command, script: python write.py out.txt 1, inputs: {}}
  nap:
    kind: command
    script: [python, -c, "import time; open('begun', 'w'); print(1, flush=True); time.sleep(60)"]
    inputs: {quick: "${steps.quick.outputs}"}
deliverables:
  - {type: quick, artifact: "${steps.quick.outputs}", path: out.txt}
"""


def test_sigterm_is_a_cancellation(project: Path, home: Path):
    process = start(project, NAP, home)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert output == b"cancelled\n"
    assert finish_abandoned() == []


def test_a_killed_run_is_finished_once_with_its_logs_and_deliverables(project: Path, home: Path):
    process = start(project, NAP, home)
    assert finish_abandoned() == []  # it lives
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (report,) = finish_abandoned()
    assert finish_abandoned() == []
    assert report.status is RunStatus.KILLED
    assert states(report) == {"quick": "done", "nap": "killed"}
    assert report.deliverables["quick"].state is DeliverableState.DELIVERED
    with zipfile.ZipFile(report.bundle or "") as bundle:
        assert bundle.read("logs/nap/stdout.txt") == b"1\n"
        assert bundle.read("deliverables/quick/out.txt") == b"1"


CHATTY = """
steps:
  chatty:
    kind: command
    script: python chatty.py
    inputs: {}
    placement: {environment: {HF_TOKEN: "${env:HF_TOKEN}"}}
"""
CHATTY_SCRIPT = """
import json, os, time
token = os.environ["HF_TOKEN"]
print("token", token, flush=True)
with open(os.environ["LABWRIGHT_METRICS"], "w") as file:
    print(json.dumps({"step": 1, "loss": 2.5, "token": token}), file=file)
open("begun", "w")
time.sleep(60)
"""


def test_what_a_killed_step_printed_is_kept_without_its_secrets(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    canary = secrets.token_hex(8)  # else it would stand in the diff of this checkout
    monkeypatch.setenv("HF_TOKEN", canary)
    (project / "chatty.py").write_text(CHATTY_SCRIPT)
    process = start(project, CHATTY, home)
    modes = {log.stat().st_mode & 0o777 for log in home.glob("staging/*/logs/*")}
    assert modes == {0o600}, "the logs of a running step are their owner's alone"
    kill(process)
    (report,) = finish_abandoned()
    folder = find_run(report.id)
    leaks = [
        path
        for path in folder.path.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes() and path.suffix != ".zip"
    ]
    with zipfile.ZipFile(folder.bundle) as bundle:
        leaks += [name for name in bundle.namelist() if canary.encode() in bundle.read(name)]
        assert bundle.read("logs/chatty/stdout.txt") == b"token ***\n"
        assert json.loads(bundle.read("logs/chatty/metrics.jsonl"))["loss"] == 2.5
    assert leaks == []


def test_whoever_looks_for_what_a_killed_step_left_makes_no_folder(project: Path, home: Path):
    process = start(project, NAP, home)
    kill(process)
    shutil.rmtree(home / "staging")
    (report,) = finish_abandoned()
    assert report.status is RunStatus.KILLED
    assert list(home.glob("staging/*")) == []


async def test_lineage_is_found_by_comparing_files(project: Path):
    first = await run(project, CHAIN)
    second = await run(project, CHAIN, "steps.one.script=python write.py out.txt 3")
    (change,) = second.modifications
    assert change.parameter == "steps.one.script"
    assert (change.before, change.after) == (
        "python write.py out.txt 1",
        "python write.py out.txt 3",
    )
    assert [report.id for report in ancestors(find_run(second.id))] == [second.id, first.id]
    text = CHAIN.replace("{name: chain}", f"{{name: other, parent: {first.id}}}")
    third = await run(project, text)
    assert third.parent == first.id
    assert third.modifications == ()


async def test_what_a_secret_variable_holds_is_written_nowhere(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRIAL_TOKEN", "hunter2-hunter2")
    text = CHAIN.replace("{name: chain}", '{name: chain, metadata: {t: "${env:TRIAL_TOKEN}"}}')
    report = await run(project, text)
    for path in find_run(report.id).path.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path


def test_ids_never_collide(home: Path):
    ids = {RunFolder.create().id for _ in range(200)}
    assert len(ids) == 200


def test_processes_that_draw_the_same_ids_never_share_a_run_or_a_bundle(
    monkeypatch: pytest.MonkeyPatch,
):
    """Every id is drawn from so few that the processes meet at most of them."""
    drawn = [str(ulid.ULID()) for _ in range(100)]
    monkeypatch.setattr(ulid, "ULID", lambda: random.choice(drawn))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        bundles = pool.map(bundle_of_a_new_run, range(90), chunksize=1)
    assert len(set(bundles)) == 90


def bundle_of_a_new_run(seed: int) -> str:
    random.seed(seed % 3)
    return str(RunFolder.create().bundle)


async def test_a_run_is_found_by_a_unique_beginning_of_its_id(project: Path):
    first = await run(project, CHAIN)
    second = await run(project, CHAIN)
    assert find_run("latest").id == second.id
    assert find_run(first.id.lower()).id == first.id
    with pytest.raises(SpecError, match="begins the ids of 2 runs"):
        find_run(first.id[:4])
    with pytest.raises(SpecError, match="there is no run 'zzz'"):
        find_run("zzz")


async def test_a_script_sees_only_the_variables_that_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STRAY", "1")
    (project / "env.py").write_text(
        "import os; open('env.txt', 'w').write(','.join(k for k in "
        "('STRAY', 'NAMED', 'PLACED') if k in os.environ))"
    )
    report = await run(
        project,
        "steps:\n"
        "  a:\n"
        "    kind: command\n"
        "    script: python env.py\n"
        "    environment: {NAMED: x}\n"
        "    placement: {environment: {PLACED: y}}\n"
        'deliverables: [{type: e, artifact: "${steps.a.outputs}", path: env.txt}]\n',
    )
    assert Path(report.deliverables["e"].path or "").read_text() == "NAMED,PLACED"
