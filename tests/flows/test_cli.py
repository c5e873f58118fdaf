"""The `labwright` command as people type it: real processes, exit statuses, stdout and stderr."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli import outcome
from flows.cli.errors import explain
from flows.cli.fields import field_rows
from flows.cli.outcome import command_name
from flows.cli.terminal import progress_words, size_words
from flows.experiment import RunFolder, RunReport, RunStatus, StepState
from flows.experiment.record import StepReport
from tasks.registry import STEPS, step_of
from tasks.spec import Placement

EXAMPLE = Path(__file__).parents[2] / "examples" / "command.yaml"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEAVY = {"torch", "transformers", "llmcompressor", "lm_eval", "guidellm", "datasets", "matplotlib"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ran(home: Path, prefect_server: str) -> subprocess.CompletedProcess[str]:
    """The example, run once through Prefect."""
    return labwright(home, "run", str(EXAMPLE), PREFECT_API_URL=prefect_server)


def labwright(
    home: Path, *arguments: str, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows", *arguments],
        env={**environment, "LABWRIGHT_HOME": str(home), "PREFECT_HOME": str(home), **variables},
        cwd=cwd or home,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_example_runs_through_prefect(ran: subprocess.CompletedProcess[str]):
    assert ran.returncode == 0, ran.stderr
    assert "done  command" in ran.stdout
    assert "delivered  comparison (threshold)" in ran.stdout
    assert f"{sys.executable} -m flows show" in ran.stdout
    assert "compare: done" in ran.stderr


def test_a_warm_rerun_prints_one_object_and_starts_no_server(
    ran: subprocess.CompletedProcess[str], home: Path
):
    again = labwright(home, "run", str(EXAMPLE), "--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert list(found)[:3] == ["id", "status", "steps"]
    assert {step["state"] for step in found["steps"].values()} == {"cached"}
    assert {item["state"] for item in found["deliverables"].values()} == {"delivered"}
    assert not (home / "server.json").exists()


def test_a_dry_run_says_what_is_cached_and_runs_nothing(
    ran: subprocess.CompletedProcess[str], home: Path
):
    before = sorted((home / "runs").iterdir())
    change = "steps.by_letter.config.pattern='[^a-z]+'"
    done = labwright(home, "run", str(EXAMPLE), "--dry-run", "--json", "--set", change)
    states = {name: step["state"] for name, step in json.loads(done.stdout)["steps"].items()}
    assert states == {"by_space": "cached", "by_letter": "will run", "compare": "depends"}
    assert "by_space" in labwright(home, "run", str(EXAMPLE), "--dry-run").stdout
    assert sorted((home / "runs").iterdir()) == before


def test_show_and_list_tell_of_a_run(ran: subprocess.CompletedProcess[str], home: Path):
    listed = json.loads(labwright(home, "list", "--json").stdout)
    first = listed[-1]["id"]
    shown = labwright(home, "show", first)
    assert shown.returncode == 0
    for words in ("by_letter", "hypothesis", "hardware", "bundle", first):
        assert words in shown.stdout
    document = json.loads(labwright(home, "show", first, "--json").stdout)
    assert document["provenance"]["steps"]["compare"]["hardware"]["num_cpus"]
    bundle = document["bundle"]
    unpacked = labwright(home, "unpack", bundle, "--to", str(home / "unpacked"))
    assert "verified files" in unpacked.stdout
    assert (home / "unpacked" / "deliverables" / "counts" / "counts.json").exists()


def test_outputs_are_shown_by_the_names_that_a_file_calls_them_by(
    ran: subprocess.CompletedProcess[str], home: Path
):
    shown = labwright(home, "show").stdout
    (line,) = [line for line in shown.splitlines() if "${steps.compare.outputs}" in line]
    assert line.split()[1] == "folder"
    assert line.split()[3] == "B"
    assert "export" in shown.splitlines()[-1]


def test_what_a_step_made_is_exported_whole_and_over_nothing(
    ran: subprocess.CompletedProcess[str], home: Path, tmp_path: Path
):
    whole = labwright(home, "export", "latest", "by_letter", "--to", str(tmp_path / "all"))
    assert whole.returncode == 0, whole.stderr
    counts = (tmp_path / "all" / "outputs" / "counts.json").read_bytes()
    one = ("export", "latest", "by_letter.outputs", "--to", str(tmp_path / "one"), "--json")
    assert json.loads(labwright(home, *one).stdout)["outputs"] == ["outputs"]
    mine = tmp_path / "one" / "counts.json"
    assert mine.read_bytes() == counts
    mine.write_text("mine")
    again = labwright(home, *one)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert mine.read_text() == "mine"
    wrong = labwright(home, "export", "latest", "by_letter.outptus", "--to", str(tmp_path / "x"))
    assert wrong.returncode == 2
    assert "did you mean 'outputs'?" in wrong.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "one"]


def test_a_damaged_output_is_not_exported(
    ran: subprocess.CompletedProcess[str], home: Path, tmp_path: Path
):
    done = labwright(home, "export", "latest", "compare", "--to", str(tmp_path / "good"))
    assert done.returncode == 0
    (file, *_) = [path for path in (tmp_path / "good").rglob("*") if path.is_file()]
    kept = home / "objects" / (name := sha256(file.read_bytes()).hexdigest())[:2] / name
    before = kept.read_bytes()
    kept.chmod(0o644)
    kept.write_bytes(before[:-1] + b"?")
    try:
        bad = labwright(home, "export", "latest", "compare", "--to", str(tmp_path / "bad"))
    finally:
        kept.write_bytes(before)
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_what_a_list_leaves_out_is_said_and_never_what_goes_on(tmp_path: Path):
    folders = [RunFolder.create(tmp_path) for _ in range(5)]
    for number, folder in enumerate(sorted(folders, key=lambda found: found.id)):
        folder.write(
            RunReport(
                id=folder.id, name=f"run{number}", file="/a/b.yaml", started=NOW, steps={},
                status=RunStatus.DONE if number else RunStatus.RUNNING,
            )
        )  # fmt: skip
    first = min(folders, key=lambda found: found.id)
    with first.held():
        listed = labwright(tmp_path, "list", "--limit", "2").stdout
    assert [name for number in range(5) if (name := f"run{number}") in listed] == [
        *("run0", "run3", "run4")
    ]
    assert "and 2 older; type: " in listed
    assert "list --limit 5" in listed


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (403544, "394 KiB"),
        (1_900_000, "1.8 MiB"),
        (2**40, "1024 GiB"),
    ],
)
def test_sizes_are_said_in_units_that_one_reads(num_bytes: int, words: str):
    assert size_words(num_bytes) == words


def test_lineage_shows_what_was_changed(ran: subprocess.CompletedProcess[str], home: Path):
    assert labwright(home, "run", str(EXAMPLE)).returncode == 0
    change = "deliverables.1.value=0.0"
    unmet = labwright(home, "run", str(EXAMPLE), "--set", change)
    assert unmet.returncode == 1
    assert "partial_success" in unmet.stdout
    lineage = labwright(home, "show", "latest", "--lineage").stdout
    assert "deliverables.1.value: 0.2 -> 0.0" in lineage


def test_a_wrong_file_ends_with_2_and_one_line_a_problem(home: Path, tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text("steps:\n  a: {kind: comand}\n  b: {kind: command}\n")
    for arguments in (["validate", str(path)], ["run", str(path)], ["run", "--dry-run", str(path)]):
        done = labwright(home, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert first.startswith(f"error: {path}:2:7: steps.a.kind: ")
        assert second.startswith(f"error: {path}:3:3: steps.b.script: is required")


def test_problems_stand_in_the_order_of_lines_and_paths_as_one_would_type_them(
    home: Path, tmp_path: Path
):
    (tmp_path / "bad.yaml").write_text(
        "steps:\n  a: {kind: command, scrpt: echo, script: no.py}\n"
        '  b: {kind: command, script: echo, inputs: {x: "${steps.z.outputs}"}}\n'
        "deliverables:\n  - {type: t, path: ../x}\n  - {type: t}\n"
    )
    said = labwright(home, "validate", "bad.yaml", cwd=tmp_path).stderr.splitlines()
    places = [line.split(" ")[1].split(":")[:3] for line in said]
    assert {name for name, _, _ in places} == {"bad.yaml"}
    lines = [int(line) for _, line, _ in places]
    assert lines == sorted(lines)
    assert {2, 3, 5, 6} == set(lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "absent.yaml"], "No such file"),
        (["show", "ZZZ"], "labwright"),
        (["step", "comand"], "did you mean 'command'?"),
        (["step", "command", "--set", "scrpt=echo"], "did you mean 'script'?"),
        (["standards", "show", "nothing"], "there is no standard named 'nothing'"),
        (["runn", "x"], "No such command"),
        (["run"], "Missing argument"),
    ],
)
def test_bad_input_ends_with_2_and_without_a_traceback(
    home: Path, arguments: list[str], words: str
):
    done = labwright(home, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_step_runs_by_itself_and_the_second_time_it_is_cached(home: Path, tmp_path: Path):
    (tmp_path / "hi.py").write_text("open('hi.txt', 'w').write('hi')")
    arguments = ["step", "command", "--set", "script=python hi.py", "--set", "inputs={}", "--json"]
    first = json.loads(labwright(home, *arguments, cwd=tmp_path).stdout)
    second = json.loads(labwright(home, *arguments, cwd=tmp_path).stdout)
    assert (first["state"], second["state"]) == ("done", "cached")
    assert (Path(first["artifacts"]["outputs"]) / "hi.txt").read_text() == "hi"


def test_a_failing_step_ends_with_1_and_says_where_its_logs_are(home: Path):
    script = "script=[python, -c, 'raise SystemExit(4)']"
    done = labwright(home, "step", "command", "--set", script, "--set", "inputs={}")
    assert done.returncode == 1
    last = done.stderr[done.stderr.rindex("error: ") :]
    assert "script exited with 4" in last
    assert "logs" in last


def test_nothing_heavy_is_imported_by_validating(home: Path):
    code = (
        "import sys\n"
        "from flows.experiment import load_experiment\n"
        "import flows.cli.app, flows.cli.run, flows.cli.show, flows.cli.step\n"
        "from pathlib import Path\n"
        f"load_experiment(Path({str(EXAMPLE)!r}))\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY | {"prefect"}) & set(done.stdout.split())


@pytest.mark.parametrize("kind", sorted(STEPS))
def test_every_field_of_every_step_has_a_type_and_a_description(kind: str):
    rows = list(field_rows(step_of(kind).spec_type))
    assert rows
    for row in rows:
        assert row.type, row
        assert row.description, row


def test_a_bug_is_one_line_and_a_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path))
    assert explain(KeyError("surprise")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "KeyError" in line
    (crash,) = (tmp_path / "logs").glob("crash-*.txt")
    assert str(crash) in line
    assert "surprise" in crash.read_text()


def test_a_crash_file_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("TRIAL_TOKEN", "hunter2-hunter2")
    monkeypatch.setattr(sys, "argv", ["labwright", "run", "--set", "MY_PASSWORD=correct-horse"])
    explain(KeyError("hunter2-hunter2"))
    (crash,) = (tmp_path / "logs").glob("crash-*.txt")
    kept = crash.read_text()
    assert "hunter2" not in kept
    assert "correct-horse" not in kept
    assert "labwright" in kept


def test_what_to_type_next_is_what_works_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "bin" / "labwright"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/labwright", "run"])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert command_name() == "bin/labwright"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_name() == "labwright"


def test_a_server_that_is_not_there_is_said_to_be_so(home: Path):
    status = labwright(home, "server", "status")
    assert status.returncode == 1
    assert "not running" in status.stdout
    stop = labwright(home, "server", "stop")
    assert (stop.returncode, stop.stdout) == (0, "no server was running\n")


def test_a_server_that_runs_is_found_and_named(session_home: Path, prefect_server: str):
    ui_url = prefect_server.removesuffix("/api")
    start = labwright(session_home, "server", "start")
    assert start.returncode == 0, start.stderr
    assert start.stdout.startswith(f"the server runs: {ui_url} (pid ")
    status = labwright(session_home, "server", "status")
    assert status.returncode == 0
    assert status.stdout.startswith(f"ready: {ui_url} (pid ")


def test_every_standard_is_listed_and_can_be_shown(home: Path):
    listed = json.loads(labwright(home, "standards", "list", "--json").stdout)
    assert listed
    shown = labwright(home, "standards", "list").stdout
    names = [item["name"] if isinstance(item, dict) else item for item in listed]
    assert all(name in shown for name in names)
    assert labwright(home, "standards", "show", names[0]).returncode == 0


def test_the_help_of_a_step_names_its_fields(home: Path):
    done = labwright(home, "step", "compress", "--help")
    assert done.returncode == 0
    for words in ("recipe", "calibration", "path or artifact", "required"):
        assert words in done.stdout


def test_a_path_is_relative_to_where_the_command_is_typed(
    ran: subprocess.CompletedProcess[str], home: Path
):
    beside = EXAMPLE.parents[1] / "tests"
    path = os.path.relpath(EXAMPLE, beside)
    again = labwright(home, "run", path, "--json", cwd=beside)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["status"] == "done"


def test_progress_is_said_in_a_few_words():
    metrics = {"step": 42, "num_steps": 300, "time_s": 3.0, "loss": 5.28123, "lr": 1e-3}
    assert progress_words(metrics) == "42 of 300, loss 5.281, lr 0.001"
    assert progress_words({"step": 1, "phase": "load"}) == "load"


def test_defaults_and_bounds_are_spelled_as_yaml_would():
    rows = {row.name: row for row in field_rows(Placement)}
    assert rows["gpus"].type == "whole number, at least 0"
    assert rows["gpus"].default == "0"
    assert rows["timeout_s"].default == "null"


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_a_wrong_file_is_an_object_on_stdout_where_json_is_asked_for(
    home: Path, tmp_path: Path, extra: list[str]
):
    path = tmp_path / "bad.yaml"
    path.write_text("steps:\n  a: {kind: comand}\n  b: {kind: command}\n")
    done = labwright(home, "run", str(path), "--json", *extra)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["id"], found["status"], len(found["problems"])) == (None, "invalid", 2)
    assert [f"error: {problem}" for problem in found["problems"]] == done.stderr.splitlines()


def test_a_run_that_cannot_be_resumed_is_an_object_too(home: Path):
    done = labwright(home, "resume", "ZZZ", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (2, "invalid")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "ZZZ"],
        ["compare", "ZZZ", "YYY"],
        ["analyze", "ZZZ"],
        ["reproduce", "ZZZ"],
    ],
)
def test_an_unknown_run_is_an_object_wherever_json_is_asked_for(home: Path, arguments: list[str]):
    done = labwright(home, *arguments, "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["id"], found["status"]) == (None, "invalid")
    assert [f"error: {problem}" for problem in found["problems"]] == done.stderr.splitlines()


@pytest.mark.parametrize("command", ["list", "show"])
def test_a_folder_of_runs_that_cannot_be_read_is_an_object_too(tmp_path: Path, command: str):
    (tmp_path / "runs").touch()
    done = labwright(tmp_path, command, "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["status"] == "invalid"
    assert "cannot be listed: Not a directory" in found["problems"][0]


def ended(home: Path, status: RunStatus, state: StepState) -> RunReport:
    """A run of one step, as it may have ended; the step said something."""
    logs = home / "runs" / "01RUN" / "logs" / "one"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "stderr.txt").touch()
    step = StepReport(kind="command", state=state)
    return RunReport(
        id="01RUN", name="x", file="/a/b.yaml", status=status, steps={"one": step}, started=NOW
    )


def test_what_to_type_next_is_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path))
    monkeypatch.setattr(outcome, "command_name", lambda: "labwright")
    logs = tmp_path / "runs" / "01RUN" / "logs"
    failed = outcome.next_commands(ended(tmp_path, RunStatus.FAILED, StepState.FAILED))
    assert failed == [
        *("labwright show 01RUN", f"tail -n 50 {logs}/one/stderr.txt", "labwright resume 01RUN")
    ]
    unmet = outcome.next_commands(ended(tmp_path, RunStatus.PARTIAL_SUCCESS, StepState.DONE))
    assert unmet == ["labwright show 01RUN", f"ls -R {logs}", "labwright run /a/b.yaml"]


def test_what_to_type_next_keeps_the_values_that_were_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path))
    monkeypatch.setattr(outcome, "command_name", lambda: "labwright")
    for status in (RunStatus.PARTIAL_SUCCESS, RunStatus.DONE):
        run = ended(tmp_path, status, StepState.DONE)
        run = run.model_copy(update={"overrides": ("steps.a.x=1", "steps.a.y=[1, 2]")})
        words = [words for words in outcome.next_commands(run) if " run " in words]
        assert words[0].startswith(
            "labwright run /a/b.yaml --set steps.a.x=1 --set 'steps.a.y=[1, 2]'"
        )


def test_the_later_lines_of_an_error_stand_below_it(tmp_path: Path):
    run = ended(tmp_path, RunStatus.FAILED, StepState.FAILED)
    step = run.steps["one"].model_copy(update={"error": "no data\nin /data\n  logs: /x"})
    console = Console(file=io.StringIO(), width=40)
    outcome.print_status(console, run.model_copy(update={"steps": {"one": step}}))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.splitlines()[1:] == ["  one: no data", "    in /data", "      logs: /x"]


def test_a_comparison_is_never_wider_than_the_console():
    headers = ["model", "size", "acc\nrecovery (95%)"]
    lines = [["base", "1.8 MiB", "0.3"], ["w8a8", "1.4 MiB (79%)", "0.3  100.0% (94.0–106.4)"]]
    narrow = Console(file=io.StringIO(), width=60)
    narrow.print(outcome.table_that_fits(headers, lines, narrow))
    said = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "w8a8   1.4 MiB (79%)  0.3  100.0% (94.0–106.4)" in said
    narrow = Console(file=io.StringIO(), width=50)
    narrow.print(
        outcome.table_that_fits([*headers, "tokens/s"], [[*x, "7"] for x in lines], narrow)
    )
    rows = [line.rstrip() for line in narrow.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert {"base", "w8a8"} <= set(rows)
    assert any(row.endswith("0.3  100.0% (94.0–106.4)") for row in rows)


def test_the_help_of_a_step_names_the_fields_of_what_a_mapping_holds(home: Path):
    said = labwright(home, "step", "gate", "--help").stdout
    assert "criteria.NAME(latency).percentile" in said
    assert "criteria.NAME(recovery).baseline.samples" in said
    (recipe,) = [row for row in field_rows(step_of("compress").spec_type) if row.name == "recipe"]
    assert recipe.type.startswith("text or path")


def test_a_script_that_says_no_inputs_is_named_before_it_runs_again(home: Path, tmp_path: Path):
    (tmp_path / "x.yaml").write_text(
        "steps:\n  mine: {kind: command, script: echo}\n"
        "  other: {kind: command, script: echo, inputs: {}}\n"
    )
    said = labwright(home, "validate", "x.yaml", cwd=tmp_path).stdout
    assert "mine: runs every time: says no inputs" in said
    assert "other" not in said
    planned = json.loads(
        labwright(home, "run", "x.yaml", "--dry-run", "--json", cwd=tmp_path).stdout
    )
    assert planned["steps"]["mine"]["reason"] == "runs every time: says no inputs"
    assert planned["steps"]["other"]["reason"] is None


def test_a_script_without_inputs_runs_every_time_by_itself(home: Path, tmp_path: Path):
    (tmp_path / "hi.py").write_text("open('hi.txt', 'w').write('hi')")
    arguments = ["step", "command", "--set", "script=python hi.py", "--json"]
    found = [json.loads(labwright(home, *arguments, cwd=tmp_path).stdout) for _ in range(2)]
    assert [answer["state"] for answer in found] == ["done", "done"]


def test_the_version_is_printed(home: Path):
    done = labwright(home, "--version")
    assert done.returncode == 0
    assert re.fullmatch(r"labwright \d+\.\d+.*\n", done.stdout)


def test_what_is_no_bundle_is_refused_in_words(home: Path, tmp_path: Path):
    (tmp_path / "text.zip").write_text("no zip")
    for path, status, words in (
        (tmp_path / "text.zip", 1, "is no zip, or was cut short"),
        (Path("/dev/zero"), 2, "is no plain file"),
        (tmp_path, 2, "is no plain file"),
        (tmp_path / "absent.zip", 2, "there is no such file"),
    ):
        done = labwright(home, "unpack", str(path), "--to", str(tmp_path / "to"))
        assert done.returncode == status
        assert words in done.stderr
        assert "labwright show ID" in done.stderr
        assert not (tmp_path / "to").exists()


def test_one_step_is_no_steps(home: Path, tmp_path: Path):
    path = tmp_path / "one.yaml"
    path.write_text("steps: {a: {kind: command, script: echo, inputs: {}}}")
    assert labwright(home, "validate", str(path)).stdout == f"{path}: sound, 1 step\n"
