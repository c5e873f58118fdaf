"""Recovery of an average over tasks: covers the truth where it is offered, and refuses in words."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from tasks.analyze.comparison import Method, PairedComparison, Statistic
from tasks.analyze.group_recovery import group_recoveries, group_recovery
from tasks.analyze.paired import PairedItems, compare_paired
from tasks.analyze.rows import Sample, Samples
from tasks.analyze.strata import Metric, StratifiedRatio, Stratum
from tasks.evaluate.spec import Score, ScorePart

LEAST_COVERAGE = 0.94
QUICK_DATA_SETS = 2_000  # two errors of such a simulation are 0.01; `long` ones have none to spare
RANDOM_SEED = 20261121


class Task(NamedTuple):
    """A task as it is simulated."""

    num_items: int
    accuracy: float  # of the baseline
    discordance: float  # share of items that one of the models alone has right
    drop: float  # of accuracy
    guess: float = 0.0


def coverage(tasks: list[Task], num_data_sets: int) -> float:
    """Share of data sets whose interval holds the true recovery of the plain mean."""
    random = np.random.default_rng([RANDOM_SEED, len(tasks), tasks[0].num_items])
    slopes = [1 / len(tasks) / (1 - task.guess) for task in tasks]
    truth = [
        sum(
            slope * (task.accuracy - lost * task.drop - task.guess)
            for slope, task in zip(slopes, tasks, strict=True)
        )
        for lost in (1, 0)
    ]
    drawn = []
    for task in tasks:
        lost, won = (task.discordance + task.drop) / 2, (task.discordance - task.drop) / 2
        cells = [task.accuracy - lost, won, lost, max(0.0, 1 - task.accuracy - won)]
        drawn.append(random.choice(4, size=(num_data_sets, task.num_items), p=cells))
    covered = 0
    for number in range(num_data_sets):
        averages, strata = [0.0, 0.0], []
        for index, (task, slope) in enumerate(zip(tasks, slopes, strict=True)):
            kinds = drawn[index][number]
            variant, baseline = (np.isin(kinds, right) * 1.0 for right in ((0, 1), (0, 2)))
            metric = Metric(baseline, variant, np.ones(len(kinds)), slope)
            strata.append(Stratum.of(str(index), [metric]))
            averages[0] += slope * (variant.mean() - task.guess)
            averages[1] += slope * (baseline.mean() - task.guess)
        ratio = StratifiedRatio(averages[0], averages[1], tuple(strata))
        covered += min(ratio.p_values(truth[0] / truth[1])) > 0.025
    return covered / num_data_sets


CELLS = {
    "few and small": [Task(30, 0.6, 0.2, 0.05, 0.25)] * 9 + [Task(30, 0.9, 0.06, 0.02)],
    "as bbh": [Task(100, 0.55, 0.15, 0.03, guess) for guess in (0.5, 0.2, 0.333, 0.09)],
    "nearly perfect": [Task(100, 0.98, 0.02, 0.01), Task(200, 0.95, 0.03, 0.0)],
    "one small and noisy": [Task(30, 0.5, 0.4, 0.0, 0.25), Task(1000, 0.8, 0.02, 0.01)],
    "models that hardly differ": [Task(300, 0.7, 0.01, 0.0)] * 3,
    "a single task": [Task(300, 0.8, 0.1, 0.05)],
}


@pytest.mark.parametrize("cell", CELLS)
def test_intervals_of_averages_cover_the_truth(cell: str) -> None:
    noise = math.sqrt(LEAST_COVERAGE * (1 - LEAST_COVERAGE) / QUICK_DATA_SETS)
    assert coverage(CELLS[cell], QUICK_DATA_SETS) >= LEAST_COVERAGE - 2 * noise


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
def test_intervals_of_averages_cover_the_truth_in_ten_thousand_data_sets(cell: str) -> None:
    assert coverage(CELLS[cell], 10_000) >= LEAST_COVERAGE


# -- from scores and samples ---------------------------------------------------------------


def answers(task: str, num_items: int, accuracy: float, seed: int) -> dict[str, Sample]:
    random = np.random.default_rng(seed)
    return {
        f"{task}-{n}": Sample(float(random.random() < accuracy), 1.0, None)
        for n in range(num_items)
    }


def share(items: dict[str, Sample]) -> float:
    return sum(one.numerator for one in items.values()) / len(items)


def average(samples: Samples, parts: tuple[ScorePart, ...]) -> Score:
    value = math.fsum(
        part.factor
        * (share(dict(samples[part.task, part.metric])) - part.random_score)
        / (1 - part.random_score)
        for part in parts
    )
    return Score(
        task="g", metric="average", value=value, num_items=1, higher_is_better=True, parts=parts
    )


def parts_of(*names: str, guess: float = 0.0, items: str = "") -> tuple[ScorePart, ...]:
    return tuple(
        ScorePart(
            task=name,
            metric="acc",
            factor=1 / len(names),
            random_score=guess,
            items=items or name,
        )
        for name in names
    )


BASE: Samples = {("a", "acc"): answers("a", 200, 0.8, 1), ("b", "acc"): answers("b", 300, 0.7, 2)}
OTHER: Samples = {
    key: {
        item: one._replace(numerator=0.0) if n % 15 == 0 else one
        for n, (item, one) in enumerate(items.items())
    }
    for key, items in BASE.items()
}


def recovery(
    parts: tuple[ScorePart, ...], base: Samples = BASE, other: Samples = OTHER
) -> PairedComparison:
    return group_recovery(average(base, parts), average(other, parts), base, other, 0.95)


def test_the_estimate_is_the_quotient_of_the_normalised_averages() -> None:
    parts = parts_of("a", "b", guess=0.25)
    found = recovery(parts)
    assert found.estimate == pytest.approx(average(OTHER, parts).value / average(BASE, parts).value)
    assert found.method is Method.STRATIFIED
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.estimate < found.high < 1
    assert (found.num_items, found.num_units) == (500, 500)
    assert found.p_value is not None
    assert found.p_value < 0.01
    [listed] = group_recoveries([average(BASE, parts)], [average(OTHER, parts)], BASE, OTHER, 0.95)
    assert (listed.label, listed.comparison) == ("g/average", found)


def test_an_average_of_one_task_agrees_with_the_task_itself() -> None:
    base: Samples = {("a", "acc"): answers("a", 2_000, 0.8, 3)}
    other: Samples = {("a", "acc"): {**base["a", "acc"]}}
    for n in range(0, 2_000, 10):
        item = f"a-{n}"
        other["a", "acc"][item] = Sample(float(n % 40 == 0), 1.0, None)  # type: ignore[index]
    found = recovery(parts_of("a"), base, other)
    sides = [[one.numerator for one in side["a", "acc"].values()] for side in (base, other)]
    alone = compare_paired(PairedItems.of(*sides), Statistic.RECOVERY)
    assert found.estimate == pytest.approx(alone.estimate)
    assert found.low == pytest.approx(alone.low, abs=0.001)
    assert found.high == pytest.approx(alone.high, abs=0.001)


def test_identical_models_recover_all_and_their_interval_is_no_point() -> None:
    found = recovery(parts_of("a", "b"), BASE, BASE)
    assert found.estimate == 1
    assert found.low is not None
    assert found.high is not None
    assert 0.98 < found.low < 1 < found.high < 1.02


def test_tasks_that_share_items_have_the_wider_interval_and_no_permutation_p_value() -> None:
    apart, shared = recovery(parts_of("a", "b")), recovery(parts_of("a", "b", items="common"))
    assert shared.estimate == apart.estimate
    assert shared.standard_error is not None
    assert apart.standard_error is not None
    assert shared.standard_error > apart.standard_error
    assert shared.p_value is None


def test_sources_are_the_units_where_items_share_them() -> None:
    def clustered(samples: Samples) -> Samples:
        return {
            key: {
                item: one._replace(cluster=str(n // 4))
                for n, (item, one) in enumerate(items.items())
            }
            for key, items in samples.items()
        }

    found = recovery(parts_of("a", "b"), clustered(BASE), clustered(OTHER))
    assert found.num_units == 125
    assert found.low is None
    assert "125 independent units in all" in (found.reason or "")


def test_two_metrics_of_one_task_are_paired_with_each_other() -> None:
    def doubled(samples: Samples) -> Samples:
        return {("a", "acc"): samples["a", "acc"], ("a", "loose"): samples["a", "acc"]}

    base = {key: {**answers("a", 400, 0.8, 5)} for key in (("a", "acc"),)}
    other = {key: {**items} for key, items in base.items()}
    for n in range(0, 400, 9):
        other["a", "acc"][f"a-{n}"] = Sample(0.0, 1.0, None)
    parts = (
        ScorePart(task="a", metric="acc", factor=0.5, items="a"),
        ScorePart(task="a", metric="loose", factor=0.5, items="a"),
    )
    once, twice = (
        recovery(parts_of("a"), base, other),
        recovery(parts, doubled(base), doubled(other)),
    )
    assert twice.num_units == 400
    assert (twice.low, twice.high) == (pytest.approx(once.low), pytest.approx(once.high))


@pytest.mark.parametrize(("guess", "expected"), [(0.0, 0.0), (0.25, -0.4)])
def test_a_model_that_lost_everything_has_recovered_nothing_for_sure(
    guess: float, expected: float
) -> None:
    """Below guessing where that is taken out: its recovery is below zero, and not cut off there."""
    nothing: Samples = {
        key: {item: one._replace(numerator=0.0) for item, one in items.items()}
        for key, items in BASE.items()
    }
    found = recovery(parts_of("a", "b", guess=guess), other=nothing)
    assert found.estimate == pytest.approx(expected, abs=0.1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < (found.estimate or 0.0) < found.high < 0.1


def clamped(parts: tuple[ScorePart, ...]) -> tuple[ScorePart, ...]:
    return (parts[0].model_copy(update={"is_clamped": True}), *parts[1:])


def test_what_has_no_recovery_says_why() -> None:
    parts = parts_of("a", "b")
    good = average(BASE, parts)
    few = {key: dict(list(items.items())[:20]) for key, items in BASE.items()}
    lost = {("a", "acc"): BASE["a", "acc"]}
    cases = [
        (good.model_copy(update={"parts": clamped(parts)}), good, BASE, "a is below guessing and"),
        (good, None, BASE, "the variant has no g/average"),
        (good, average(BASE, parts_of("b", "a")), BASE, "not made of the same tasks"),
        (good.model_copy(update={"value": 0.0}), good, BASE, "at or below zero"),
        (good, good, lost, "the variant has no items of b/acc"),
        (good, good, few, "180 items of a/acc were answered by one of the two only"),
    ]
    for base, other, samples, words in cases:
        found = group_recovery(base, other, BASE, samples, 0.95)
        assert found.estimate is None, words
        assert words in (found.reason or "")
    small = recovery(parts, few, few)
    assert (small.estimate, small.low) == (1.0, None)
    assert "40 independent units in all and 20 in the smallest task are too few" in (
        small.reason or ""
    )
