"""Families of tests, equivalence, power, ranks: each keeps the level or power that it names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.analyze.comparison import Statistic
from tasks.analyze.equivalence import Equivalence, tost
from tasks.analyze.hypothesis_tests import RankMethod, wilcoxon_signed_rank
from tasks.analyze.multiplicity import benjamini_hochberg, holm
from tasks.analyze.paired import PairedItems, compare_paired, sign_flip_p_value
from tasks.analyze.power import (
    items_needed,
    mean_power,
    more_items_needed,
    paired_power,
    repeats_needed,
    repeats_power,
    smallest_detectable_drop,
)


def drawn(
    num_items: int, drop: float, discordance: float, random: np.random.Generator
) -> PairedItems:
    """0/1 items, right 0.7 of the time under the baseline."""
    lost, won = (discordance + drop) / 2, (discordance - drop) / 2
    kind = random.choice(4, num_items, p=[0.7 - lost, won, lost, 0.3 - won])
    base, variant = np.isin(kind, (0, 2)).astype(float), np.isin(kind, (0, 1)).astype(float)
    return PairedItems(base, variant, np.ones(num_items))


def test_adjusted_p_values_equal_worked_examples() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.04, 0.04))
    assert holm([]) == benjamini_hochberg([]) == ()


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@pytest.mark.parametrize("value", [math.nan, None, -0.1, 1.1])
def test_a_missing_p_value_is_refused(adjust: object, value: float) -> None:
    assert callable(adjust)
    with pytest.raises(ValueError, match="p-value 1 of 2"):
        adjust([0.5, value])


def test_holm_and_benjamini_hochberg_keep_the_level_they_name() -> None:
    """20 tests of which 14 are true nulls; 4,000 families."""
    random = np.random.default_rng(1)
    effects = np.repeat([0.0, 3.0], [14, 6])
    any_false, shares, found = 0, [], 0
    for _ in range(4_000):
        p_values = [math.erfc(abs(z) / math.sqrt(2)) for z in random.normal(effects)]
        any_false += min(holm(p_values)[:14]) <= 0.05
        discovered = np.array(benjamini_hochberg(p_values)) <= 0.05
        shares.append(discovered[:14].sum() / max(discovered.sum(), 1))
        found += discovered[14:].sum()
    assert any_false / 4_000 <= 0.05 + 0.007  # two standard errors
    assert 0.025 <= np.mean(shares) <= 0.05 + 0.004
    assert found / (4_000 * 6) > 0.6


def test_equivalence_is_claimed_falsely_at_most_at_its_level() -> None:
    """The variant is worse by the margin exactly: 2,000 data sets of 2,000 items."""
    random = np.random.default_rng(2)
    claims = sum(
        tost(drawn(2_000, 0.007, 0.05, random), 0.01, Statistic.RECOVERY).is_no_worse
        for _ in range(1_000)
    )
    assert claims / 1_000 <= 0.05 + 0.014


def test_equivalence_says_what_the_interval_at_one_less_two_alpha_shows() -> None:
    random = np.random.default_rng(3)
    same = tost(drawn(20_000, 0.0, 0.02, random), 0.01)
    assert same.verdict is Equivalence.EQUIVALENT
    assert same.comparison.confidence == pytest.approx(0.9)
    assert same.comparison.low is not None
    assert same.comparison.low > 0.99
    worse = tost(drawn(5_000, 0.05, 0.06, random), 0.01)
    assert worse.verdict is Equivalence.WORSE
    assert tost(drawn(100, 0.0, 0.1, random), 0.01).verdict is Equivalence.UNDECIDED
    better = tost(drawn(5_000, -0.05, 0.06, random), 0.01)
    assert better.verdict is Equivalence.NO_WORSE


def test_a_difference_of_what_should_be_low_is_turned_round() -> None:
    random = np.random.default_rng(4)
    errors = random.normal(1.0, 0.1, 400)
    higher = PairedItems.of(errors.tolist(), (errors + random.normal(0.05, 0.01, 400)).tolist())
    found = tost(higher, 0.01, Statistic.DIFFERENCE, higher_is_better=False)
    assert found.verdict is Equivalence.WORSE
    assert tost(higher, 0.01, Statistic.DIFFERENCE).verdict is Equivalence.NO_WORSE


def test_too_few_sources_decide_nothing() -> None:
    found = tost(PairedItems.of([1.5] * 10, [1.4] * 10), 0.01)
    assert (found.verdict, found.p_no_worse) == (Equivalence.UNDECIDED, None)


@pytest.mark.parametrize(
    ("num_items", "drop", "discordance"), [(150, 0.05, 0.1), (1_500, 0.02, 0.08)]
)
def test_power_is_what_simulation_finds(num_items: int, drop: float, discordance: float) -> None:
    random = np.random.default_rng(5)
    seen = sum(
        sign_flip_p_value(drawn(num_items, drop, discordance, random)) <= 0.05 for _ in range(2_000)
    )
    assert seen / 2_000 == pytest.approx(paired_power(num_items, drop, discordance), abs=0.025)


def test_as_many_items_as_needed_see_the_drop_and_fewer_do_not() -> None:
    needed = items_needed(0.01, discordance=0.06)
    assert paired_power(needed, 0.01, 0.06) >= 0.8
    assert paired_power(int(0.95 * needed), 0.01, 0.06) < 0.8
    # Connor (1987): (1.96 sqrt(0.06) + 0.8416 sqrt(0.06 - 0.0001))^2 / 0.01^2 = 4,706
    # and the exact test, whose level stays below 0.05, needs some more.
    assert 4_706 <= needed <= 1.05 * 4_706
    assert smallest_detectable_drop(needed, discordance=0.06) == pytest.approx(0.01, rel=0.01)
    assert smallest_detectable_drop(5, discordance=0.06) is None


def test_power_of_means_and_of_repeats_is_that_of_students_t() -> None:
    """R: power.t.test(delta=0.5, sd=1, power=0.8) needs 63.8; paired 33.4."""
    assert items_needed(0.5, sd=1.0) == 34
    assert mean_power(34, 0.5, 1.0) >= 0.8 > mean_power(33, 0.5, 1.0)
    assert repeats_needed(-math.expm1(-0.5), sd=1.0) in (64, 65, 66)  # at a cautious bound
    random = np.random.default_rng(6)
    a, b = random.normal(0, 0.01, (4_000, 5)), random.normal(math.log1p(-0.02), 0.01, (4_000, 5))
    spread = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 5)
    seen = np.abs(b.mean(axis=1) - a.mean(axis=1)) > 2.776 * spread  # t with 4 degrees
    assert seen.mean() == pytest.approx(repeats_power(5, 0.02, 0.01), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"drop": 0.1}, "give either"),
        ({"drop": 0.1, "sd": 1.0, "discordance": 0.2}, "give either"),
        ({"drop": 0.1, "discordance": 0.05}, "from the drop"),
        ({"drop": 0.0, "sd": 1.0}, "above zero"),
        ({"drop": 1e-6, "sd": 1.0}, "would not show"),
    ],
)
def test_what_no_number_of_items_can_show_is_refused(
    arguments: dict[str, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        items_needed(**arguments)  # type: ignore[arg-type]


def test_the_items_that_an_open_gate_asks_for_decide_it_four_times_in_five() -> None:
    random = np.random.default_rng(7)
    first = drawn(600, 0.0, 0.06, random)
    both = PairedItems(first.baseline, first.baseline.copy(), first.denominator)
    both.variant[:15] = 1 - both.variant[:15]
    both.variant[-15:] = 1 - both.variant[-15:]
    found = compare_paired(both, Statistic.DIFFERENCE)
    threshold = (found.estimate or 0.0) - 0.01
    more = more_items_needed(found, threshold)
    assert more is not None
    assert more > 0
    discordance, drop = 30 / 600, -(found.estimate or 0.0)
    decided = 0
    for _ in range(300):
        again = compare_paired(drawn(600 + more, drop, discordance, random), Statistic.DIFFERENCE)
        assert again.low is not None
        decided += again.low > threshold
    assert 0.72 <= decided / 300 <= 0.92
    assert more_items_needed(found, found.estimate or 0.0) is None
    assert more_items_needed(found, -0.5) == 0


def test_standard_errors_are_clustered_where_items_share_a_source() -> None:
    random = np.random.default_rng(8)
    whole = drawn(100, 0.02, 0.3, random)
    base, variant = (np.repeat(side, 4) for side in (whole.baseline, whole.variant))
    sources = np.repeat(np.arange(100), 4)
    alone = compare_paired(PairedItems(base, variant, np.ones(400)), Statistic.DIFFERENCE)
    shared = compare_paired(PairedItems(base, variant, np.ones(400), sources), Statistic.DIFFERENCE)
    once = compare_paired(whole, Statistic.DIFFERENCE)
    assert shared.standard_error == pytest.approx(once.standard_error)
    assert alone.standard_error == pytest.approx((once.standard_error or 0) / 2, rel=0.02)
    assert shared.p_value == pytest.approx(once.p_value)


def test_wilcoxon_says_what_it_did_about_zeros_and_ties() -> None:
    plain = wilcoxon_signed_rank([0.3, -0.1, 0.8, 0.5, 0.7])
    assert (plain.method, plain.p_value) == (RankMethod.EXACT, pytest.approx(4 / 32))
    tied = wilcoxon_signed_rank([1, 1, 1, 1, 1, 0, 0])
    assert (tied.method, tied.num_zeros, tied.has_ties) == (RankMethod.PERMUTED, 2, True)
    assert tied.p_value == pytest.approx(2 / 32)
    assert wilcoxon_signed_rank([0.0, 0.0]).p_value == 1.0
    assert wilcoxon_signed_rank(np.linspace(-1, 3, 80).tolist()).method is RankMethod.NORMAL
