"""Scores by themselves: their intervals cover at least 94 of 100 wherever they are offered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tasks.analyze.rows import Sample
from tasks.evaluate.spec import Score, ScorePart
from tasks.gate.measures import MIN_STDERR_ITEMS, score

LEAST_COVERAGE = 0.94
NUM_DATA_SETS = 10_000  # of the long versions


def average(parts: list[tuple[int, int]]) -> Score:
    """The plain average of tasks with so many right of so many items, and its standard error."""
    shares = [right / num for right, num in parts]
    variances = [p * (1 - p) / (num - 1) for p, (_, num) in zip(shares, parts, strict=True)]
    return Score(
        task="t",
        metric="acc",
        value=sum(shares) / len(parts),
        stderr=math.sqrt(sum(variances)) / len(parts),
        num_items=sum(num for _, num in parts),
    )


@pytest.mark.parametrize("num_items", [MIN_STDERR_ITEMS, 400, 1_000])
@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_a_standard_error_alone_covers_the_truth(num_items: int, accuracy: float) -> None:
    """No simulation: every number of right items, weighted by its probability."""
    covered = offered = 0.0
    for right in range(num_items + 1):
        chance = float(stats.binom.pmf(right, num_items, accuracy))
        found = score(average([(right, num_items)]), None, 0.95)
        if chance > 1e-9 and found.low is not None and found.high is not None:
            offered += chance
            covered += chance * (found.low <= accuracy <= found.high)
    assert offered > 0.99
    assert covered / offered >= LEAST_COVERAGE


AVERAGES = {
    "easy": [(0.98, 100), (0.98, 100), (0.98, 100)],
    "mixed": [(0.5, 250), (0.9, 250), (0.98, 40)],
    "many small": [(0.97, 30)] * 12,
    "one small": [(0.3, 20), (0.6, 1_000)],
}


def average_coverage(tasks: list[tuple[float, int]], number: int) -> float:
    random = np.random.default_rng(4)
    truth = sum(accuracy for accuracy, _ in tasks) / len(tasks)
    covered = offered = 0
    for _ in range(number):
        parts = [(int(random.binomial(num, accuracy)), num) for accuracy, num in tasks]
        found = score(average(parts), None, 0.95)
        if found.low is not None and found.high is not None:
            offered += 1
            covered += found.low <= truth <= found.high
    assert offered > 0.95 * number
    return covered / offered


@pytest.mark.parametrize("cell", AVERAGES)
def test_the_standard_error_of_an_average_of_tasks_covers_the_truth(cell: str) -> None:
    assert average_coverage(AVERAGES[cell], 2_000) >= LEAST_COVERAGE - 0.01  # two standard errors


@pytest.mark.long
@pytest.mark.parametrize("cell", AVERAGES)
def test_the_standard_error_of_an_average_covers_the_truth_in_ten_thousand(cell: str) -> None:
    assert average_coverage(AVERAGES[cell], NUM_DATA_SETS) >= LEAST_COVERAGE


def test_an_average_that_guessing_is_taken_out_of_has_no_interval_of_its_standard_error() -> None:
    """Taken as of 0/1 items, 300 to 3,000 at 0.255 are covered 83% to 91% (0.25 is guessing)."""
    plain = ScorePart(task="a", metric="acc", factor=0.5, items="a")
    guessed = ScorePart(task="b", metric="acc", factor=0.5, items="b", random_score=0.25)
    whole = average([(400, 500), (150, 500)])
    assert score(whole.model_copy(update={"parts": (plain, plain)}), None, 0.95).has_interval
    found = score(whole.model_copy(update={"parts": (plain, guessed)}), None, 0.95)
    assert not found.has_interval
    assert found.number == whole.value
    assert "guessing is taken out of" in found.reason


def mean_coverage(num_items: int, sigma: float, number: int) -> float:
    """Of the mean of log-normal items."""
    random = np.random.default_rng([num_items, int(10 * sigma)])
    empty = Score(task="t", metric="nats", value=1.0, num_items=num_items)
    covered = 0
    for _ in range(number):
        values = random.lognormal(0, sigma, num_items).tolist()
        items = {str(n): Sample(value, 1.0, None) for n, value in enumerate(values)}
        found = score(empty, items, 0.95)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= math.exp(sigma**2 / 2) <= found.high
    return covered / number


@pytest.mark.parametrize("num_items", [30, 100])
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0])
def test_a_mean_of_skewed_items_covers_the_truth(num_items: int, sigma: float) -> None:
    assert mean_coverage(num_items, sigma, 200) >= LEAST_COVERAGE - 0.034  # two standard errors


@pytest.mark.long
@pytest.mark.parametrize("num_items", [30, 100])
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0])
def test_a_mean_of_skewed_items_covers_the_truth_in_ten_thousand(
    num_items: int, sigma: float
) -> None:
    assert mean_coverage(num_items, sigma, NUM_DATA_SETS) >= LEAST_COVERAGE


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"stderr": 0.0}, "zero says nothing"),
        ({"stderr": None}, "not known"),
        ({"value": 1.0, "stderr": 0.0}, "between 0 and 1"),
        ({"value": 27.3}, "between 0 and 1"),
        ({"num_items": MIN_STDERR_ITEMS - 20}, "needs at least 20 more"),
    ],
)
def test_a_standard_error_that_tells_too_little_makes_no_interval(
    changed: dict[str, float], words: str
) -> None:
    whole = Score(task="t", metric="f1", value=0.5, stderr=0.01, num_items=1_000)
    found = score(whole.model_copy(update=changed), None, 0.95)
    assert not found.has_interval
    assert words in found.reason
