"""Simulated nights: how often the verdict is wrong, what it sees, and what does not blind it.

Between-night standard deviation 0.5%, within a night 1%, 5 repeats; 1,000 histories each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest

from tasks.analyze.nightly import MIN_NIGHTS, Night, NightlyVerdict, Outcome, nightly_verdict

NUM_HISTORIES = 1_000
MACHINE = {"gpu": "H200", "vllm": "0.24.0"}

Levels = Callable[[np.random.Generator], np.ndarray]


def nights(levels: np.ndarray, random: np.random.Generator, within: float = 0.01) -> list[Night]:
    values = 100 * np.exp(levels[:, None] + random.normal(0, within, (len(levels), 5)))
    return [
        Night(
            date=date(2026, 1, 1) + timedelta(days),
            repeats=tuple(float(value) for value in repeats),
            environment=MACHINE,
        )
        for days, repeats in enumerate(values)
    ]


def steady(num_nights: int, drop: float = 0.0, between: float = 0.005) -> Levels:
    """`num_nights` of one level, then tonight."""

    def levels(random: np.random.Generator) -> np.ndarray:
        found = random.normal(0, between, num_nights + 1)
        found[-1] += np.log1p(-drop)
        return found

    return levels


def with_outliers(levels: Levels) -> Levels:
    def spoilt(random: np.random.Generator) -> np.ndarray:
        found = levels(random)
        found[random.choice(len(found) - 1, len(found) // 10, replace=False)] -= 0.08
        return found

    return spoilt


def with_shift(levels: Levels, night: int) -> Levels:
    def shifted(random: np.random.Generator) -> np.ndarray:
        found = levels(random)
        found[:night] -= 0.05
        return found

    return shifted


def drifting(num_steady: int, per_night: float) -> Levels:
    def levels(random: np.random.Generator) -> np.ndarray:
        found = random.normal(0, 0.005, num_steady + 30)
        found[-30:] += np.log1p(per_night) * np.arange(1, 31)
        return found

    return levels


def outcomes(levels: Levels) -> Counter[Outcome]:
    random = np.random.default_rng(3)
    found: Counter[Outcome] = Counter()
    for _ in range(NUM_HISTORIES):
        *history, tonight = nights(levels(random), random)
        found[nightly_verdict(history, tonight).outcome] += 1
    return found


def one(levels: Levels) -> NightlyVerdict:
    random = np.random.default_rng(4)
    *history, tonight = nights(levels(random), random)
    return nightly_verdict(history, tonight)


@pytest.mark.parametrize(
    "levels",
    [
        steady(20),
        steady(60),
        with_outliers(steady(20)),
        with_shift(steady(40), 20),
    ],
    ids=["20 nights", "60 nights", "outliers", "shift"],
)
def test_a_false_alarm_is_raised_in_at_most_one_of_a_hundred_nights(levels: Levels) -> None:
    assert outcomes(levels)[Outcome.SAME] >= 0.99 * NUM_HISTORIES


@pytest.mark.parametrize(
    "levels",
    [
        steady(20, drop=0.03),
        with_outliers(steady(20, drop=0.03)),
        with_shift(steady(40, drop=0.03), 20),
    ],
    ids=["20 nights", "outliers", "shift"],
)
def test_a_drop_of_3_percent_is_seen_with_a_power_of_80_percent(levels: Levels) -> None:
    assert outcomes(levels)[Outcome.REGRESSED] >= 0.8 * NUM_HISTORIES


@pytest.mark.parametrize("num_steady", [0, 30])
def test_a_slow_drift_is_found_though_no_night_stands_out(num_steady: int) -> None:
    assert outcomes(drifting(num_steady, -0.0015))[Outcome.REGRESSED] >= 0.9 * NUM_HISTORIES
    found = one(drifting(num_steady, -0.0015))
    assert found.drift is not None
    assert found.drift.change_per_night == pytest.approx(-0.0015, abs=5e-4)


def test_the_smallest_visible_drop_is_the_one_seen_four_times_in_five() -> None:
    random = np.random.default_rng(5)
    seen = 0
    for _ in range(NUM_HISTORIES):
        levels = steady(20)(random)
        *history, tonight = nights(levels, random)
        visible = nightly_verdict(history, tonight).smallest_visible
        assert visible is not None
        slower = tuple(value * (1 - visible) for value in tonight.repeats)
        worse = tonight.model_copy(update={"repeats": slower})
        seen += nightly_verdict(history, worse).outcome is Outcome.REGRESSED
    assert 0.75 <= seen / NUM_HISTORIES <= 0.86


def test_more_noise_or_fewer_nights_raise_the_smallest_visible_drop() -> None:
    random = np.random.default_rng(9)

    def typical(levels: Levels) -> float:
        found = []
        for _ in range(50):
            *history, tonight = nights(levels(random), random)
            found.append(nightly_verdict(history, tonight).smallest_visible or 0.0)
        return float(np.median(found))

    assert typical(steady(40)) < 0.9 * typical(steady(10))
    assert typical(steady(40, between=0.03)) > 2 * typical(steady(40))
    found = one(steady(40))
    assert f"{found.smallest_visible:.1%} would have been seen" in found.reason


def test_a_higher_latency_is_a_regression_where_lower_is_better() -> None:
    random = np.random.default_rng(6)
    *history, tonight = nights(steady(30, drop=-0.05)(random), random)
    assert nightly_verdict(history, tonight).outcome is Outcome.IMPROVED
    turned = nightly_verdict(history, tonight, higher_is_better=False)
    assert turned.outcome is Outcome.REGRESSED
    assert turned.change == pytest.approx(0.05, abs=0.02)


def test_nights_of_another_environment_are_not_compared_and_the_reason_names_the_change() -> None:
    random = np.random.default_rng(7)
    *history, tonight = nights(steady(30)(random), random)
    newer = tonight.model_copy(update={"environment": MACHINE | {"vllm": "0.25.0"}})
    found = nightly_verdict(history, newer)
    assert found.outcome is Outcome.NOT_COMPARABLE
    assert (found.change, found.num_other) == (None, 30)
    assert "vllm was 0.24.0 and is 0.25.0" in found.reason


def test_too_few_nights_are_not_comparable_and_say_what_they_could_have_shown() -> None:
    found = one(steady(MIN_NIGHTS - 1))
    assert found.outcome is Outcome.NOT_COMPARABLE
    assert f"{MIN_NIGHTS} needed" in found.reason
    assert found.smallest_visible is not None
    assert f"only a drop of {found.smallest_visible:.1%} would stand out" in found.reason
    assert one(steady(2)).smallest_visible is None


@pytest.mark.parametrize("num_nights", [MIN_NIGHTS, 10, 12])
def test_few_nights_are_compared_with_whichever_are_far_off(num_nights: int) -> None:
    """In one history of seven a night of eight is far off its median by chance."""
    found = outcomes(steady(num_nights))
    assert found[Outcome.NOT_COMPARABLE] == 0
    assert found[Outcome.SAME] >= 0.985 * NUM_HISTORIES


def test_a_real_outlier_among_few_nights_widens_what_is_taken_as_usual() -> None:
    random = np.random.default_rng(10)
    levels = steady(MIN_NIGHTS)(random)
    *history, tonight = nights(levels, random)
    usual = nightly_verdict(history, tonight)
    levels[3] -= 0.3
    *history, tonight = nights(levels, random)
    found = nightly_verdict(history, tonight)
    assert (found.num_nights, found.num_outliers) == (MIN_NIGHTS, 0)
    assert (found.smallest_visible or 0) > 3 * (usual.smallest_visible or 1)


def test_nights_that_are_all_equal_tell_no_spread() -> None:
    equal = [
        Night(date=date(2026, 1, day), repeats=(100.0, 100.0), environment=MACHINE)
        for day in range(1, 15)
    ]
    found = nightly_verdict(equal[:-1], equal[-1])
    assert found.outcome is Outcome.NOT_COMPARABLE
    assert "are equal, and tell no spread" in found.reason


def test_nights_out_of_order_are_refused() -> None:
    random = np.random.default_rng(8)
    *history, tonight = nights(steady(10)(random), random)
    with pytest.raises(ValueError, match="order of their dates"):
        nightly_verdict(history[::-1], tonight)
