"""Claims about repeats of two sides: coverage, too few, and drift."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.analyze.repeats import MIN_REPEATS, RepeatMethod, compare_repeats, mean_of_repeats

NUM_DATA_SETS = 10_000


def spread(kind: str, random: np.random.Generator, num_repeats: int) -> np.ndarray:
    """Standard deviation one, mean zero [num_repeats]."""
    if kind == "normal":
        return random.normal(0, 1, num_repeats)
    if kind == "heavy":
        return random.standard_t(4, num_repeats) / math.sqrt(2)
    return (random.gamma(4, 1, num_repeats) - 4) / 2  # skewness 1


@pytest.mark.parametrize("num_repeats", [MIN_REPEATS, 5, 20])
@pytest.mark.parametrize(
    ("kind", "times"),
    [("normal", 1), ("normal", 3), ("heavy", 1), ("heavy", 3), ("skewed", 1), ("skewed", 3)],
)
def test_the_interval_covers_the_ratio(num_repeats: int, kind: str, times: int) -> None:
    assert coverage(num_repeats, kind, times, NUM_DATA_SETS // 10) >= 0.94 - 0.014  # noise of 1,000


@pytest.mark.long
@pytest.mark.parametrize("num_repeats", [MIN_REPEATS, 4, 5, 8, 10, 20, 40])
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("times", [1, 3])
def test_the_interval_covers_the_ratio_over_the_grid(
    num_repeats: int, kind: str, times: int
) -> None:
    assert coverage(num_repeats, kind, times, NUM_DATA_SETS) >= 0.94


def coverage(num_repeats: int, kind: str, times: int, number: int) -> float:
    random = np.random.default_rng(num_repeats)
    covered = 0
    for _ in range(number):
        a = np.exp(0.01 * spread(kind, random, num_repeats))
        b = 0.97 * np.exp(0.01 * times * spread(kind, random, num_repeats))
        found = compare_repeats(a.tolist(), b.tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.97 <= found.high
    return covered / number


def mean_coverage(num_repeats: int, kind: str, number: int) -> float:
    """Of the geometric mean of one side, whose values are as named or whose logarithms are."""
    random = np.random.default_rng(num_repeats)
    truth, covered = 100.0, 0
    if kind == "gamma values":
        truth = 100 * math.exp(1.2561176684318003) / 4  # digamma(4)
    for _ in range(number):
        if kind == "gamma values":
            values = 100 * random.gamma(4, 1, num_repeats) / 4
        elif kind == "log-normal values":
            values = 100 * random.lognormal(0, 0.5, num_repeats)
        else:
            values = 100 * np.exp(0.02 * spread(kind, random, num_repeats))
        found = mean_of_repeats(values.tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    return covered / number


KINDS = ["normal", "heavy", "skewed", "gamma values", "log-normal values"]


@pytest.mark.parametrize("num_repeats", [MIN_REPEATS, 5, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_of_one_side_covers_its_mean(num_repeats: int, kind: str) -> None:
    assert mean_coverage(num_repeats, kind, NUM_DATA_SETS // 10) >= 0.94 - 0.014


@pytest.mark.long
@pytest.mark.parametrize("num_repeats", [MIN_REPEATS, 4, 5, 8, 10, 20, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_of_one_side_covers_its_mean_over_the_grid(
    num_repeats: int, kind: str
) -> None:
    assert mean_coverage(num_repeats, kind, NUM_DATA_SETS) >= 0.94 - 0.002  # noise of 10,000


def test_one_side_of_too_few_or_equal_repeats_has_no_interval() -> None:
    few = mean_of_repeats([100.0, 101.0])
    assert (few.low, few.high) == (None, None)
    assert few.estimate == pytest.approx(100.5, abs=0.01)
    assert "needs at least 1 more" in few.reason
    equal = mean_of_repeats([100.0] * 5)
    assert (equal.low, equal.high) == (None, None)
    assert "nothing is known about their spread" in equal.reason


def test_too_few_or_equal_repeats_get_an_estimate_and_the_reason() -> None:
    few = compare_repeats([100, 101], [97, 98])
    assert (few.method, few.low) == (RepeatMethod.NONE, None)
    assert few.estimate == pytest.approx(0.97, abs=0.001)
    assert few.reason == "2 repeats are too few for an interval (3 needed): needs at least 1 more"
    assert "equal" in (compare_repeats([100.0] * 4, [90.0] * 4).reason or "")


def test_a_drift_is_told_from_a_difference_where_the_sides_took_turns() -> None:
    random = np.random.default_rng(1)
    values = 100 * np.exp(-0.005 * np.arange(12) + random.normal(0, 0.002, 12))
    turns = compare_repeats(values[::2].tolist(), values[1::2].tolist(), order="AB" * 6)
    assert turns.drift is not None
    assert turns.drift.is_found
    assert turns.drift.change_per_repeat == pytest.approx(-0.005, abs=0.001)
    assert turns.low is not None
    assert turns.high is not None
    assert turns.low < 1 < turns.high
    apart = compare_repeats(values[:6].tolist(), values[6:].tolist(), order="AAAAAABBBBBB")
    assert apart.low is None
    assert "take turns" in (apart.reason or "")


def test_a_drift_is_found_by_chance_as_often_as_its_level_says() -> None:
    random = np.random.default_rng(2)
    found = 0
    for _ in range(2_000):
        a, b = np.exp(random.normal(0, 0.01, (2, 6)))
        drift = compare_repeats(a.tolist(), b.tolist(), order="ABBA" * 3).drift
        assert drift is not None
        found += drift.is_found
    assert found / 2_000 == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize(
    ("a", "b", "order", "words"),
    [
        ([], [1.0], None, "repeats of A"),
        ([1.0, 0.0], [1.0], None, "above zero"),
        ([1.0], [math.nan], None, "repeats of B"),
        ([1.0, 2.0], [1.0], "ABB", "order 'ABB'"),
    ],
)
def test_what_is_no_pair_of_sides_is_refused(
    a: list[float], b: list[float], order: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        compare_repeats(a, b, order)
