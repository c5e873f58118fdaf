"""A gate that was not passed holds back what comes after it, and the run is not a success."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows.cli.outcome import print_outcome
from flows.cli.show import show_run
from flows.experiment import (
    RunReport,
    RunStatus,
    call_directly,
    find_run,
    load_experiment,
    look_up,
    plan,
    resume_experiment,
    run_experiment,
)
from flows.experiment.plan import PlanState
from tasks.errors import Problem, SpecError
from tasks.verdict import Verdict
from tests.fakes.quickstart import labwright

GATES = Path(__file__).parents[2] / "examples" / "gates.yaml"
GATED = """
experiment: {name: gated}
steps:
  gate:
    kind: gate
    criteria:
      small: {kind: size_ratio, size_bytes: 60, base_size_bytes: 100, threshold: 0.5}
      even: {kind: size_ratio, size_bytes: 60, base_size_bytes: 100, threshold: 0.7}
  dear: {kind: command, script: "touch MARKER", after: [gate], inputs: {}}
  last: {kind: command, script: echo, inputs: {dear: "${steps.dear.outputs}"}}
  other: {kind: command, script: echo, inputs: {}}
"""
LOOSER = "steps.gate.criteria.small.threshold=0.6"


@pytest.fixture
def file(home: Path, tmp_path: Path) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(GATED.replace("MARKER", str(tmp_path / "marker")))
    return path


async def run(file: Path, *overrides: str) -> RunReport:
    return await run_experiment(load_experiment(file, overrides), call=call_directly)


def states(report: RunReport) -> dict[str, str]:
    return {name: step.state.value for name, step in report.steps.items()}


async def test_a_gate_that_is_not_passed_stops_what_is_after_it_and_nothing_else(file: Path):
    report = await run(file)
    assert states(report) == {
        "gate": "done",
        "dear": "skipped",
        "last": "skipped",
        "other": "done",
    }
    assert not file.with_name("marker").exists()
    assert "gate 'gate' was not passed: failed; small: " in (report.steps["dear"].error or "")
    assert report.status is RunStatus.PARTIAL_SUCCESS
    assert report.status.exit_status == 1
    verdicts = {name: one.verdict for name, one in report.gates["gate"].criteria.items()}
    assert verdicts == {"small": Verdict.FAILED, "even": Verdict.PASSED}
    assert find_run(report.id).read() == report
    assert report.summary()["gates"]["gate"]["verdict"] == "failed"


async def test_a_gate_that_is_passed_lets_the_steps_after_it_begin(file: Path):
    report = await run(file, LOOSER)
    assert report.status is RunStatus.DONE
    assert set(states(report).values()) == {"done"}
    assert file.with_name("marker").exists()


async def test_asked_again_a_gate_says_the_same_from_the_store_and_needs_no_prefect(file: Path):
    await run(file)

    async def refuse(*_: object) -> None:
        raise AssertionError("no step should be called")

    found = plan(load_experiment(file), look_up)
    assert {name: planned.state for name, planned in found.steps.items()} == {
        "gate": PlanState.CACHED,
        "dear": PlanState.HELD_BACK,
        "last": PlanState.HELD_BACK,
        "other": PlanState.CACHED,
    }
    again = await run_experiment(load_experiment(file), call=refuse)
    assert states(again)["dear"] == "skipped"
    assert again.status is RunStatus.PARTIAL_SUCCESS
    resumed = await resume_experiment(find_run(again.id), call=refuse)
    assert resumed.gates == again.gates


async def test_a_gate_that_does_not_stop_still_makes_the_run_no_success(file: Path):
    report = await run(file, "steps.gate.stop=false")
    assert set(states(report).values()) == {"done"}
    assert file.with_name("marker").exists()
    assert report.status is RunStatus.PARTIAL_SUCCESS


async def test_a_step_that_takes_the_verdict_of_a_gate_is_after_it(file: Path):
    text = file.read_text().replace("after: [gate]", 'config: {passed: "${steps.gate.passed}"}')
    file.write_text(text)
    report = await run(file)
    assert report.steps["dear"].upstream == ("gate",)
    assert states(report)["dear"] == "skipped"


LEFT_OPEN = """
steps:
  measured: {kind: command, script: "python measured.py", inputs: {}}
  gate:
    kind: gate
    criteria:
      fast:
        kind: throughput
        load: synchronous
        threshold: 10
        points: [POINT]
  dear: {kind: command, script: echo, after: [gate], inputs: {}}
"""
POINT = {
    "load": "synchronous",
    "kind": "synchronous",
    "repeat": 0,
    "duration_s": 1.0,
    "num_successful": 1,
    "num_errored": 0,
    "num_incomplete": 0,
    "error_fraction": 0.0,
    "requests_per_s": 1.0,
    "output_tokens_per_s": 50.0,
    "ttft_ms": None,
    "itl_ms": None,
    "latency_s": None,
}


@pytest.mark.parametrize(("policy", "state"), [("stop", "skipped"), ("pass", "done")])
async def test_what_an_interval_leaves_open_stops_unless_the_file_says_pass(
    file: Path, policy: str, state: str
):
    file.with_name("measured.py").write_text("")
    file.write_text(LEFT_OPEN.replace("POINT", json.dumps(POINT)))
    report = await run(file, f"steps.gate.inconclusive={policy}")
    assert report.gates["gate"].verdict is Verdict.INCONCLUSIVE
    assert states(report)["dear"] == state
    assert report.status.exit_status == (state != "done")


async def test_missing_data_is_not_let_pass_by_that(file: Path):
    file.with_name("measured.py").write_text("")
    text = LEFT_OPEN.replace("POINT", "").replace("load: sync", "load: a")
    file.write_text(text)
    report = await run(file, "steps.gate.inconclusive=pass")
    assert report.gates["gate"].verdict is Verdict.MISSING
    assert states(report)["dear"] == "skipped"


async def test_where_nothing_was_measured_the_gate_is_not_asked_and_nothing_goes_on(file: Path):
    file.write_text(
        "steps:\n"
        "  bad: {kind: command, script: [python, -c, 'exit(1)'], inputs: {}}\n"
        "  gate:\n"
        "    kind: gate\n"
        '    criteria: {size: {kind: size_ratio, size_bytes: "${steps.bad.size_bytes}", '
        "base_size_bytes: 9, threshold: 0.5}}\n"
        "  dear: {kind: command, script: echo, after: [gate], inputs: {}}\n"
    )
    report = await run(file)
    assert states(report) == {"bad": "failed", "gate": "skipped", "dear": "skipped"}
    assert report.status is RunStatus.FAILED


async def test_the_end_of_a_run_and_show_name_every_criterion(
    file: Path, capsys: pytest.CaptureFixture[str]
):
    report = await run(file)
    print_outcome(report)
    show_run(report.id, as_json=False)
    told = capsys.readouterr().out
    for line in ("failed  gate (gate)", "failed  small: size of the", "passed  even: size of the"):
        assert told.count(line) == 2, line
    show_run(report.id, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["gates"]["gate"]["criteria"]["small"]["number"] == 0.6


async def test_prefect_shows_the_flow_as_failed_with_the_gates_words(
    file: Path, prefect_server: str
):
    report = await run_experiment(load_experiment(file))
    async with get_client() as client:
        wanted = FlowRunFilter(name=FlowRunFilterName(like_=report.id))
        (flow_run,) = await client.read_flow_runs(flow_run_filter=wanted)
        task_runs = await client.read_task_runs(flow_run_filter=wanted)
    assert flow_run.state is not None
    assert flow_run.state.is_failed()
    assert "gate 'gate' was not passed" in (flow_run.state.message or "")
    assert {run.name: run.state_name for run in task_runs} == {
        "gate": "Completed",
        "other": "Completed",
    }


# -- what is found before anything runs ----------------------------------------------------


def problems(file: Path, text: str) -> dict[str, Problem]:
    file.write_text(text)
    with pytest.raises(SpecError) as refused:
        load_experiment(file)
    return {problem.key: problem for problem in refused.value.problems}


def test_every_mistake_in_a_gate_is_found_at_once(file: Path):
    file.with_name("measured.py").write_text("")
    evaluation = '{scores: "${steps.eval.scores}", samples: "${steps.eval.samples}"}'
    found = problems(
        file,
        "steps:\n"
        "  eval: {kind: evaluate, model: ., tasks: [t], allow_hub: true}\n"
        "  gate:\n"
        "    kind: gate\n"
        "    inconclusive: passes\n"
        "    criteria:\n"
        f"      a: {{kind: recovry, metric: t/acc, baseline: {evaluation}}}\n"
        f"      b: {{kind: recovery, metric: acc, baseline: {evaluation}}}\n"
        f"      c: {{kind: score, metric: t/acc, evaluation: {evaluation}}}\n"
        '      d: {kind: size_ratio, size_bytes: "${steps.eval.size}", threshold: -1}\n'
        f"      e: {{kind: perplexity_ratio, metric: t/word_perplexity, baseline: {evaluation}, "
        f"variant: {evaluation}, threshold: 1.1}}\n"
        "  dear: {kind: command, script: echo, after: [gat], inputs: {}}\n",
    )
    lines = {key: problem.line for key, problem in found.items()}
    assert lines == {
        "steps.gate.inconclusive": 5,
        "steps.gate.criteria.a": 7,
        "steps.gate.criteria.b.metric": 8,
        "steps.gate.criteria.b.variant": 8,
        "steps.gate.criteria.c.threshold": 9,
        "steps.gate.criteria.d.size_bytes": 10,
        "steps.gate.criteria.d.base_size_bytes": 10,
        "steps.gate.criteria.d.threshold": 10,
        "steps.gate.criteria.e.metric": 11,
        "steps.dear.after.0": 12,
    }
    assert "did you mean 'recovery'?" in str(found["steps.gate.criteria.a"])
    assert "did you mean 'gate'?" in str(found["steps.dear.after.0"])


def test_steps_that_are_after_each_other_are_a_cycle(file: Path):
    text = GATED.replace("kind: gate\n", "kind: gate\n    after: [dear]\n")
    found = problems(file, text)
    assert any("wait for each other" in str(problem) for problem in found.values())


def test_the_example_passes_and_stops(home: Path):
    passed = labwright("run", str(GATES), "--json", "--dry-run", LABWRIGHT_HOME=str(home))
    assert passed.returncode == 0, passed.stderr


@pytest.mark.parametrize(("threshold", "dear"), [(0.5, "done"), (0.01, "skipped")])
async def test_the_example_does_what_its_head_says(home: Path, threshold: float, dear: str):
    report = await run(GATES, f"steps.gate.criteria.small.threshold={threshold}")
    assert states(report)["dear"] == dear
