"""What is said of numbers in two runs: differences with intervals, or why none is offered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.compare import RunComparison, compare_runs, margins
from flows.compare.numbers import artifacts_in_result, numbers_in
from flows.compare.outcome import Correction, Outcome, corrected, judge
from flows.compare.rows import Row
from flows.compare.surroundings import Aspect
from tasks.analyze.equivalence import Equivalence
from tasks.analyze.power import paired_power
from tasks.analyze.repeats import RepeatComparison, compare_repeats
from tests.fakes.kept_runs import (
    MACHINE,
    Kept,
    benchmark,
    evaluation,
    keep_run,
    training,
    with_average,
)

GOOD = [1.0] * 90 + [0.0] * 10
BAD = [0.0] * 30 + [1.0] * 60 + [0.0] * 10


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Each test has a store of its own."""


def compared(*steps: Kept, matches: dict[str, str] | None = None) -> RunComparison:
    """Runs of one step each, all called `it`."""
    return compare_runs([keep_run({"it": step}) for step in steps], matches or {})


def rows(*steps: Kept) -> dict[str, Row]:
    return {row.what: row for row in compared(*steps).others[0].rows}


def test_scores_of_the_same_items_are_paired_with_interval_and_p_value():
    row = rows(evaluation({"task": GOOD}), evaluation({"task": BAD}))["task/acc"]
    assert row.outcome is Outcome.WORSE
    assert row.difference == pytest.approx(-0.3)
    assert row.paired is not None
    assert row.paired.low is not None
    assert row.paired.low < -0.3 < row.paired.high < 0  # type: ignore[operator]
    assert row.p_corrected == pytest.approx(2 * 0.5**30)


def test_what_chance_explains_is_undecided():
    other = [0.0, *GOOD[1:]]
    row = rows(evaluation({"task": GOOD}), evaluation({"task": other}))["task/acc"]
    assert row.outcome is Outcome.UNDECIDED
    assert row.p_corrected == 1.0


def test_scores_of_other_items_are_not_compared():
    row = rows(evaluation({"task": GOOD}), evaluation({"task": BAD}, first_item=7))["task/acc"]
    assert row.outcome is Outcome.NOT_COMPARABLE
    assert row.reason == "14 items were answered by one of the two only"
    assert row.paired is None
    assert row.p_corrected is None


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("num_fewshot", 0, 5),
        ("apply_chat_template", False, True),
        ("system_instruction", None, "x"),
    ],
)
def test_items_that_were_asked_otherwise_are_not_compared(key: str, before: Any, after: Any):
    steps = [evaluation({"task": GOOD}, spec={key: value}) for value in (before, after)]
    row = rows(*steps)["task/acc"]
    assert row.outcome is Outcome.NOT_COMPARABLE
    assert row.reason is not None
    assert row.reason.startswith(f"asked otherwise: {key} ")


def test_items_of_one_source_count_as_one():
    sources = [f"play{n % 40}" for n in range(100)]
    steps = [evaluation({"task": answers}, sources=sources) for answers in (GOOD, BAD)]
    paired = rows(*steps)["task/acc"].paired
    assert paired is not None
    assert (paired.num_items, paired.num_units) == (100, 40)


def test_other_versions_and_devices_are_told_beside_a_score():
    steps = [
        evaluation({"task": answers}, spec={"device_kind": kind}, versions={"torch": version})
        for answers, kind, version in ((GOOD, "cpu", "2.13.0"), (BAD, "cuda", "2.14.0"))
    ]
    row = rows(*steps)["task/acc"]
    assert row.outcome is Outcome.WORSE
    assert row.caveats == ("torch 2.13.0 against 2.14.0", "device_kind cpu against cuda")


def test_other_files_of_tasks_are_told_beside_a_score():
    specs = [{"task_folder": {"digest": digest}} for digest in "ab"]
    row = rows(*(evaluation({"task": GOOD}, spec=spec) for spec in specs))["task/acc"]
    assert row.caveats == ("files in task_folder that differ",)


def test_throughput_is_compared_by_repeats_of_one_load():
    row = rows(benchmark([100, 101, 99, 100]), benchmark([80, 81, 79, 80]))[
        "concurrent 4, tokens/s"
    ]
    assert row.outcome is Outcome.WORSE
    assert row.repeats is not None
    assert row.repeats.estimate == pytest.approx(0.8, rel=0.01)
    assert row.repeats.num_repeats == 4
    assert row.repeats.drift is not None
    assert not row.repeats.drift.is_balanced, "the runs did not take turns"


def test_throughput_of_other_hardware_is_not_comparable_and_says_which():
    elsewhere = {**MACHINE, "num_cpus": 2}
    row = rows(benchmark([100, 101, 99]), benchmark([50, 51, 49], hardware=elsewhere))[
        "concurrent 4, tokens/s"
    ]
    assert row.outcome is Outcome.NOT_COMPARABLE
    assert row.reason == "other hardware: num_cpus 8 against 2"
    assert (row.baseline, row.other) == (100, 50), "the numbers themselves are shown"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"num_requests": 99}, "another amount of load: num_requests none against 99"),
        ({"workload": "chat"}, "another workload: workload none against chat"),
    ],
)
def test_throughput_of_another_load_is_not_comparable(spec: dict[str, Any], reason: str):
    found = rows(benchmark([100, 101, 99]), benchmark([50, 51, 49], spec=spec))
    assert {row.reason for row in found.values()} == {reason}


def test_repeats_too_few_for_an_interval_decide_nothing():
    row = rows(benchmark([100, 101]), benchmark([50, 51]))["concurrent 4, tokens/s"]
    assert row.outcome is Outcome.UNDECIDED
    assert row.reason is not None
    assert "too few" in row.reason


def test_losses_over_other_tokens_are_not_comparable_and_over_the_same_are_plain_numbers():
    same, other = ({"validation_tokens": {"digest": digest}} for digest in "ab")
    row = rows(training(3.0, spec=same), training(2.5, spec=other))["final_validation_loss"]
    assert row.outcome is Outcome.NOT_COMPARABLE
    assert row.reason == "mean over other tokens: validation_tokens differ"
    row = rows(training(3.0, spec=same), training(2.5, spec=same))["final_validation_loss"]
    assert (row.outcome, row.difference) == (Outcome.DIFFERENT, -0.5)


def test_another_budget_of_training_is_told_beside_its_losses_but_not_its_size():
    found = rows(training(3.0, spec={"num_steps": 10}), training(2.5, spec={"num_steps": 20}))
    assert found["final_validation_loss"].caveats == ("num_steps 10 against 20",)
    assert found["size_bytes"].outcome is Outcome.EQUAL
    assert found["size_bytes"].caveats == ()


def test_p_values_are_corrected_over_all_tests_of_all_runs():
    few = [0.0] * 6 + GOOD[6:]  # alone p = 0.031
    base = {f"task{n}": GOOD for n in range(3)}
    changed = {**base, "task0": few}
    alone = compared(evaluation({"task0": GOOD}), evaluation({"task0": few}))
    assert [row.outcome for row in alone.others[0].rows] == [Outcome.WORSE]
    family = compared(evaluation(base), evaluation(changed), evaluation(base))
    assert family.num_tests == 6
    (row,) = [row for row in family.others[0].rows if row.difference]
    assert row.p_value == pytest.approx(0.03125)
    assert row.p_corrected == pytest.approx(6 * 0.03125)
    assert row.outcome is Outcome.UNDECIDED


def test_the_answer_of_one_computation_is_equal_and_no_test():
    step = evaluation({"task": GOOD})
    kept = Kept(step.kind, step.result, identity="a" * 64)
    found = compared(kept, kept)
    assert [row.outcome for row in found.others[0].rows] == [Outcome.EQUAL]
    assert found.num_tests == 0
    assert found.others[0].surroundings == ()


def test_a_metric_of_one_run_only_is_told():
    found = rows(evaluation({"task": GOOD}), evaluation({"task": GOOD, "more": BAD}))
    assert found["more/acc"].reason == "not measured in the baseline"
    assert found["more/acc"].baseline is None


def test_circumstances_are_listed_once_with_their_steps():
    one, two = (
        {
            "a": training(3.0, seeds={"seed": seed}, labwright={"commit": commit}),
            "b": training(2.0, labwright={"commit": commit}),
        }
        for seed, commit in ((0, "old"), (1, "new"))
    )
    (other,) = compare_runs([keep_run(one), keep_run(two)], {}).others
    found = {(item.aspect, item.what): item.steps for item in other.surroundings}
    assert found == {
        (Aspect.CODE, "labwright commit"): ("a", "b"),
        (Aspect.SEEDS, "seed"): ("a",),
    }


def test_numbers_and_artifacts_of_a_result_have_readable_names():
    result = evaluation({"task": GOOD}).result.model_dump(mode="json")
    assert dict(numbers_in(result))["scores[task/acc].value"] == 0.9
    assert set(dict(artifacts_in_result(result))) == {"samples", "results", "outputs"}


def test_averages_over_tasks_are_paired_by_the_items_of_their_tasks():
    base = {task: [1.0] * 180 + [0.0] * 20 for task in "ab"}
    worse = {task: [0.0] * 60 + [1.0] * 120 + [0.0] * 20 for task in "ab"}
    row = rows(with_average(base), with_average(worse))["all/average"]
    assert row.outcome is Outcome.WORSE
    assert row.paired is not None
    assert row.paired.low is not None
    assert row.paired.high is not None
    assert row.paired.low < 120 / 180 < row.paired.high < 1
    few = {task: answers[:20] for task, answers in base.items()}
    row = rows(with_average(few), with_average({**few, "a": [0.0, *few["a"][1:]]}))["all/average"]
    assert row.outcome is Outcome.UNDECIDED
    assert "too few for an interval" in (row.reason or "")


# -- one rule, margins, what could have been seen ---------------------------------------


def repeats(low: float, high: float) -> RepeatComparison:
    found = compare_repeats([100, 101, 99], [90, 91, 89])
    return found.model_copy(update={"low": low, "high": high})


@pytest.mark.parametrize(
    ("low", "high", "p_corrected", "higher_is_better", "outcome"),
    [
        (0.8, 0.9, 0.01, True, Outcome.WORSE),
        (0.8, 0.9, 0.01, False, Outcome.BETTER),
        (1.1, 1.2, 0.01, True, Outcome.BETTER),
        (0.8, 0.9, 0.01, None, Outcome.DIFFERENT),
        (0.8, 0.9, 0.12, True, Outcome.UNDECIDED),  # one of many that were looked at
        (0.8, 1.1, 0.01, True, Outcome.UNDECIDED),
        (0.8, 0.9, None, True, Outcome.UNDECIDED),
        (None, None, 0.01, True, Outcome.UNDECIDED),
    ],
)
def test_a_difference_needs_its_interval_and_its_corrected_p_value(
    low: float, high: float, p_corrected: float | None, higher_is_better: bool, outcome: Outcome
):
    assert judge(repeats(low, high), p_corrected, higher_is_better) is outcome


def test_p_values_are_corrected_as_the_user_asks():
    p_values = [0.01, None, 0.04, 0.03]
    assert corrected(p_values) == pytest.approx([0.03, None, 0.06, 0.06])
    assert corrected(p_values, Correction.BH) == pytest.approx([0.03, None, 0.04, 0.04])


def test_no_worse_is_shown_refuted_or_left_open():
    base = [1.0] * 1800 + [0.0] * 200
    others = {
        Equivalence.NO_WORSE: [*[0.0] * 2, *base[2:]],
        Equivalence.WORSE: [*[0.0] * 300, *base[300:]],
        Equivalence.UNDECIDED: [*[0.0] * 18, *base[18:]],
    }
    for verdict, answers in others.items():
        runs = [keep_run({"it": evaluation({"t": a})}) for a in (base, answers)]
        (row,) = compare_runs(runs, {}, margin=0.01).others[0].rows
        assert row.no_worse is not None
        assert row.no_worse.verdict is verdict


def test_an_average_says_that_no_worse_is_not_tested_of_it():
    answers = {task: [1.0] * 180 + [0.0] * 20 for task in "ab"}
    kept = (with_average(answers), with_average({**answers, "a": [0.0, *answers["a"][1:]]}))
    runs = [keep_run({"it": one}) for one in kept]
    found = {row.what: row for row in compare_runs(runs, {}, margin=0.01).others[0].rows}
    claim = found["all/average"].no_worse
    assert claim is not None
    assert claim.reason == "not tested for an average over tasks"
    assert claim.p_corrected is None
    tested = found["a/acc"].no_worse
    assert tested is not None
    assert tested.reason is None


def test_speeds_are_no_worse_by_their_repeats():
    fast, near, slow = ([level, level + 1, level - 1] for level in (100.0, 99.0, 80.0))
    assert margins.of_repeats(fast, near, 0.1, higher_is_better=True).p_no_worse < 0.01  # type: ignore[operator]
    assert margins.of_repeats(fast, slow, 0.1, higher_is_better=True).p_worse < 0.01  # type: ignore[operator]
    assert margins.of_repeats(fast, slow, 0.1, higher_is_better=False).p_no_worse < 0.01  # type: ignore[operator]
    assert margins.of_repeats(slow, fast, 0.1, higher_is_better=False).p_worse < 0.01  # type: ignore[operator]


def test_what_is_undecided_says_what_it_could_have_seen():
    other = [0.0] * 3 + [1.0] * 88 + [0.0] * 9
    row = rows(evaluation({"task": GOOD}), evaluation({"task": other}))["task/acc"]
    assert row.outcome is Outcome.UNDECIDED
    assert row.sensitivity is not None
    drop = row.sensitivity.smallest_drop
    assert drop is None or paired_power(100, drop, discordance=0.04) >= 0.8
    assert row.sensitivity.num_more is not None
    assert row.sensitivity.num_more > 100


def test_a_wide_comparison_names_the_smallest_drop_that_it_would_have_seen():
    base, other = [1.0] * 300 + [0.0] * 100, [1.0] * 250 + [0.0] * 100 + [1.0] * 50
    row = rows(evaluation({"task": base}), evaluation({"task": other}))["task/acc"]
    assert row.outcome is Outcome.UNDECIDED
    assert row.sensitivity is not None
    assert row.sensitivity.smallest_drop is not None
    assert paired_power(400, row.sensitivity.smallest_drop, discordance=0.25) == pytest.approx(
        0.8, abs=0.02
    )
    assert "it would have seen a drop of 0.07" in row.sensitivity.words
