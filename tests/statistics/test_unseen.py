"""Items of any size and skew: the interval covers at least 94 of 100, and is always offered.

The bits of documents under two models. Some lose far more than others; some losses are so rare that
a sample may show none. A cell's truth is known; its data sets are drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from tasks.analyze.comparison import Method, Statistic, too_few
from tasks.analyze.paired import MIN_UNITS, PairedItems, PairedQuestion, compare_paired
from tasks.analyze.unseen import UnseenTest

NUM_DATA_SETS = 10_000
LEAST_COVERAGE = 0.94

Changes = Callable[[np.random.Generator, int], np.ndarray]


def some_lose(share: float, loss: float) -> tuple[Changes, float]:
    def changes(random: np.random.Generator, number: int) -> np.ndarray:
        return 1 + loss * (random.random(number) < share) + random.normal(0, 0.002, number)

    return changes, 1 + share * loss


# How many times as many bits each document takes [num_documents], and the mean of that.
EFFECTS: dict[str, tuple[Changes, float]] = {
    "mild": (lambda random, n: random.normal(1.03, 0.02, n), 1.03),
    "5% lose 30%": some_lose(0.05, 0.3),
    "2% lose 30%": some_lose(0.02, 0.3),
    "10% lose 15%": some_lose(0.1, 0.15),
    "5% gain 30%": some_lose(0.05, -0.3),
    "log-normal": (lambda random, n: random.lognormal(0, 1, n), math.exp(0.5)),
    "log-normal losses": (
        lambda random, n: 1 + 0.03 * random.lognormal(0, 1, n),
        1 + 0.03 * math.exp(0.5),
    ),
    "exponential losses": (lambda random, n: 1 + 0.03 * random.exponential(1, n), 1.03),
}


def question(name: str, num: int, skew: float, random: np.random.Generator) -> PairedQuestion:
    bits = random.lognormal(7, skew, num)
    variant = bits * EFFECTS[name][0](random, num)
    return PairedQuestion.of(
        PairedItems(bits, variant, bits), Statistic.RECOVERY, higher_is_better=False
    )


def coverage(name: str, num_documents: int, skew: float, number: int) -> tuple[float, float]:
    """Of the true recovery, and how often 'recovery is above 0.99' is claimed."""
    random = np.random.default_rng([num_documents, int(10 * skew)])
    truth = 1 / EFFECTS[name][1]
    covered = passed = 0
    for _ in range(number):
        one = question(name, num_documents, skew, random)
        at_truth = one.p_values(truth)
        assert at_truth is not None, "an interval is always offered"
        covered += min(at_truth) > 0.025
        if truth < 0.99 and at_truth[0] <= 0.5:  # above the threshold is less likely still
            at_threshold = one.p_values(0.99)
            assert at_threshold is not None
            passed += at_threshold[0] <= 0.025
    return covered / number, passed / number


@pytest.mark.parametrize("num_documents", [MIN_UNITS, 70, 150])
@pytest.mark.parametrize("name", EFFECTS)
def test_the_interval_covers_the_truth_and_a_gate_is_hardly_passed_falsely(
    name: str, num_documents: int
) -> None:
    """400 data sets, so a bound of their own noise (two standard errors) below."""
    found, passed = coverage(name, num_documents, 0.5, 400)
    assert found >= LEAST_COVERAGE - 0.024
    if EFFECTS[name][1] > 1 / 0.99:
        assert passed <= 0.025 + 0.016


@pytest.mark.long
@pytest.mark.parametrize("num_documents", [MIN_UNITS, 40, 70, 150, 300])
@pytest.mark.parametrize("skew", [0.3, 0.8])
@pytest.mark.parametrize("name", EFFECTS)
def test_the_interval_covers_the_truth_over_the_grid(
    name: str, skew: float, num_documents: int
) -> None:
    found, passed = coverage(name, num_documents, skew, NUM_DATA_SETS)
    assert found >= LEAST_COVERAGE
    if EFFECTS[name][1] > 1 / 0.99:
        assert passed <= 0.03


def test_students_t_misses_rare_losses_in_a_quarter_of_the_cases() -> None:
    """One source in twenty loses 30%; 30 sources, and both intervals of the same data."""
    random = np.random.default_rng(5)
    truth = 1 / EFFECTS["5% lose 30%"][1]
    by_t = ours = 0
    for _ in range(2_000):
        one = question("5% lose 30%", 30, 0.5, random)
        by_t += stats.ttest_1samp(one.top - truth * one.bottom, 0).pvalue > 0.05
        found = one.p_values(truth)
        assert found is not None
        ours += min(found) > 0.025
    assert 0.70 <= by_t / 2_000 <= 0.80
    assert ours / 2_000 >= LEAST_COVERAGE


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_sources_of_right_and_wrong_items_may_be_lost_as_a_whole(rate: float) -> None:
    """300 sources of ten items; a rare source has every item wrong under the variant."""
    random = np.random.default_rng(3)
    sources = np.repeat(np.arange(300), 10)
    covered = 0
    for _ in range(400):
        base = (random.random(3_000) < 0.7).astype(float)
        again = (random.random(3_000) < 0.7).astype(float)
        variant = np.where(random.random(3_000) < 0.1, again, base)
        variant[(random.random(300) < rate)[sources]] = 0.0
        one = PairedQuestion.of(
            PairedItems(base, variant, np.ones(3_000), sources),
            Statistic.RECOVERY,
            higher_is_better=True,
        )
        assert one.method is Method.UNSEEN
        found = one.p_values(1 - rate)
        assert found is not None
        covered += min(found) > 0.025
    assert covered / 400 >= LEAST_COVERAGE - 0.024


def test_a_tail_is_that_of_random_weights() -> None:
    random = np.random.default_rng(1)
    weights = random.exponential(size=(100_000, 61))
    top, bottom = random.lognormal(0, 0.5, 60), random.lognormal(0, 0.5, 60)
    found = UnseenTest.of(top, bottom, 1.0)
    for value in (0.7, 0.8, 0.9, 1.0, 1.2):
        for p_value, (extra_top, extra_bottom), sign in zip(
            found.p_values(value), (found.lowest, found.highest), (1, -1), strict=True
        ):
            terms = np.append(top - value * bottom, extra_top - value * extra_bottom)
            drawn = float((sign * weights @ terms <= 0).mean())
            assert p_value == pytest.approx(drawn, abs=0.006)


def test_units_that_all_agree_leave_open_what_clopper_and_pearson_do() -> None:
    """0 of n: the upper limit is 1 - 0.025^(1/n), here of documents that lose 30%."""
    for number in (30, 100, 400):
        bits = [100.0] * number
        found = compare_paired(
            PairedItems.of(bits, bits, bits), Statistic.DIFFERENCE, higher_is_better=False
        )
        assert found.high == pytest.approx(0.3 * (1 - 0.025 ** (1 / number)), rel=0.02)
        assert found.low == pytest.approx(-(found.high or 0.0), rel=0.001)


def test_an_interval_ends_where_its_test_begins_to_reject() -> None:
    one = question("5% lose 30%", 80, 0.5, np.random.default_rng(2))
    interval = one.interval(0.95)
    assert interval is not None
    for end, side in zip(interval, (0, 1), strict=True):
        found = one.p_values(end)
        assert found is not None
        assert found[side] == pytest.approx(0.025, rel=1e-3)


def test_too_few_documents_get_no_interval_but_how_many_more_it_takes() -> None:
    bits = np.linspace(100, 200, MIN_UNITS - 4).tolist()
    found = compare_paired(PairedItems.of(bits, bits), Statistic.RECOVERY)
    assert (found.low, found.method) == (None, Method.NONE)
    assert found.reason == too_few("independent units", MIN_UNITS - 4, MIN_UNITS)
    assert "needs at least 4 more" in found.reason


@pytest.mark.parametrize(
    ("baseline", "variant"),
    [([0.0] * 40, [0.0] * 40), ([-1.0] * 10 + [2.0] * 30, [1.5] * 40)],
    ids=["all zero", "of both signs"],
)
def test_scores_that_have_no_ratio_have_no_interval(
    baseline: list[float], variant: list[float]
) -> None:
    items = PairedItems.of(baseline, variant, [1.0] * 39 + [2.0])
    found = compare_paired(items, Statistic.RECOVERY)
    assert found.low is None
    assert found.reason
