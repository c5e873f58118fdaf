"""`labwright compare` as it is typed: matching, damage, exit statuses, one JSON object."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.cli.compare import compare, parse_correction, parse_margin
from flows.compare import compare_runs
from flows.compare.outcome import Correction
from flows.experiment import RunFolder
from tasks.artifacts import ArtifactRef
from tasks.errors import SpecError
from tasks.store.layout import Layout
from tests.fakes.kept_runs import benchmark, evaluation, keep_run

GOOD = [1.0] * 90 + [0.0] * 10
BAD = [0.0] * 30 + [1.0] * 60 + [0.0] * 10


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Each test has a store of its own."""


def asked(name: str, **fields: Any) -> dict[str, Any]:
    return {"steps": {name: {"kind": "evaluate", "limit": 100, **fields}}}


def two_runs() -> tuple[RunFolder, RunFolder]:
    """The second of another file, in which the step has another name."""
    first = keep_run(
        {"evaluate": evaluation({"task": GOOD}), "speed": benchmark([1.0, 1.1, 0.9])},
        asked("evaluate", model="${steps.evaluate.model}"),
    )
    second = keep_run(
        {"judge": evaluation({"task": BAD}), "speed": benchmark([1.0, 1.1, 0.9])},
        asked("judge", model="${steps.judge.model}"),
        name="other",
    )
    return first, second


def damage(ref: ArtifactRef, home: Path) -> None:
    path = Layout(home).object(ref.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-2] + b"x\n")


def test_steps_of_different_files_are_matched_by_the_user():
    first, second = two_runs()
    (alone,) = compare_runs([first, second], {}).others
    assert alone.only_in_baseline == ("evaluate",)
    assert alone.only_in_other == ("judge",)
    (other,) = compare_runs([first, second], {"evaluate": "judge"}).others
    assert {row.step for row in other.rows} == {"evaluate / judge", "speed"}
    assert other.only_in_baseline == other.only_in_other == ()
    assert other.modifications == (), "a step under another name is no other value"


def test_the_first_run_is_the_baseline_of_all_others(capsys: pytest.CaptureFixture[str]):
    runs = [keep_run({"it": evaluation({"task": a})}) for a in (GOOD, BAD, GOOD)]
    assert compare([run.id for run in runs], [], as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"]["id"] == runs[0].id
    assert [one["run"]["id"] for one in found["others"]] == [run.id for run in runs[1:]]
    assert [one["rows"][0]["outcome"] for one in found["others"]] == ["worse", "undecided"]


def test_people_get_tables_with_the_reasons(capsys: pytest.CaptureFixture[str]):
    first, second = two_runs()
    assert compare([first.id, "latest"], ["evaluate=judge"], as_json=False) == 0
    out = capsys.readouterr().out
    assert f"baseline  {first.id}" in out
    assert f"against   {second.id}" in out
    assert "-0.3 (-0.4" in out
    assert "corrected over the 2 tests" in out
    assert "all repeats are equal" in out


def test_every_unknown_run_is_named_at_once_with_the_nearest():
    first, second = two_runs()
    nearly = f"{second.id[:-1]}?"
    with pytest.raises(SpecError) as caught:
        compare([first.id, nearly, "nothing", first.id], [], as_json=True)
    words = [str(problem) for problem in caught.value.problems]
    assert words == [
        f"there is no run '{nearly}'; type: labwright list; did you mean '{second.id}'?",
        "there is no run 'nothing'; type: labwright list",
        f"run {first.id} is named twice; give different runs",
    ]
    assert caught.value.exit_status == 2


def test_one_run_alone_is_refused():
    first, _ = two_runs()
    with pytest.raises(SpecError, match="two runs or more"):
        compare([first.id], [], as_json=True)


def test_wrong_matches_are_named_at_once():
    first, second = two_runs()
    matches = ["evalute=judge", "evaluate=jugde", "speed=judge"]
    with pytest.raises(SpecError) as caught:
        compare([first.id, second.id], matches, as_json=True)
    assert [str(problem) for problem in caught.value.problems] == [
        f"--match: run {first.id}: there is no step 'evalute'; did you mean 'evaluate'?",
        "--match: the runs compared with it: there is no step 'jugde'; did you mean 'judge'?",
        "--match: speed is of kind benchmark, judge of kind evaluate",
    ]
    with pytest.raises(SpecError, match="is not BASELINE_STEP=OTHER_STEP"):
        compare([first.id, second.id], ["evaluate"], as_json=True)


def test_damaged_samples_are_named_and_the_rest_is_compared(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    steps = {"hurt": evaluation({"task": BAD}), "well": evaluation({"task": GOOD})}
    first = keep_run({"hurt": evaluation({"task": GOOD}), "well": evaluation({"task": GOOD})})
    second = keep_run(steps)
    damage(steps["hurt"].result.samples, home)  # type: ignore[attr-defined]
    assert compare([first.id, second.id], [], as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    (problem,) = found["problems"]
    assert problem.startswith(f"run {second.id}: hurt: samples 'samples.jsonl'")
    outcomes = {row["step"]: row["outcome"] for row in found["others"][0]["rows"]}
    assert outcomes == {"hurt": "not comparable", "well": "undecided"}


def test_a_record_that_is_gone_is_named(home: Path, capsys: pytest.CaptureFixture[str]):
    first, second = two_runs()
    for record in (home / "records" / "benchmark").iterdir():
        record.unlink()
    assert compare([first.id, second.id], ["evaluate=judge"], as_json=False) == 1
    out = capsys.readouterr().out
    assert out.count("is gone from the store") == 2
    assert "evaluate / judge" in out


def test_a_margin_and_a_correction_are_asked_for(capsys: pytest.CaptureFixture[str]):
    first, second = two_runs()
    names, matches = [first.id, second.id], ["evaluate=judge"]
    assert compare(names, matches, as_json=False, no_worse_than="1%") == 0
    out = capsys.readouterr().out
    assert "no worse than 1%" in out
    assert re.search(r"worse +refuted \(p [\d.e-]+\)", out)
    assert compare(names, matches, True, correction=Correction.BH, no_worse_than="0.01") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["correction"], found["margin"]) == ("bh", 0.01)
    (score,) = [row for row in found["others"][0]["rows"] if row["measure"] == "score"]
    assert score["no_worse"]["verdict"] == "worse"


@pytest.mark.parametrize("text", ["0", "100%", "-1%", "one", "nan", "1.5"])
def test_a_margin_that_is_no_share_is_refused(text: str):
    with pytest.raises(SpecError, match=r"--no-worse-than: .*give one such as 1% or 0.01"):
        parse_margin(text)
    with pytest.raises(SpecError, match="did you mean 'holm'"):
        parse_correction("holmes")
