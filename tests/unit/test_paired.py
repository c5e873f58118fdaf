"""Claims about the paired comparison of two models."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.analyze.comparison import Method, Statistic
from tasks.analyze.intervals import DIFFERENCE, PairedTable, score_interval
from tasks.analyze.paired import PairedItems, compare_paired, sign_flip_p_value
from tasks.analyze.sign_flips import Alternative


def accuracies(num_items: int, num_lost: int, num_won: int) -> PairedItems:
    """The first half right under the baseline; some items lost, some won by the variant."""
    baseline = np.repeat([1.0, 0.0], [num_items // 2, num_items - num_items // 2])
    variant = baseline.copy()
    variant[:num_lost] = 0.0
    variant[-num_won or num_items :] = 1.0
    return PairedItems.of(baseline.tolist(), variant.tolist())


def test_tangos_interval_matches_his_published_example() -> None:
    """Tango (1998), table I: 44 pairs, discordant 1 and 0: difference 0.0227 (-0.0574, 0.1184)."""
    low, high = score_interval(DIFFERENCE, PairedTable(43, 1, 0, 44), 0.95)
    assert low == pytest.approx(-0.0599, abs=3e-3)
    assert high == pytest.approx(0.1184, abs=3e-3)


def test_recovery_is_inverted_where_lower_is_better() -> None:
    bits = np.linspace(100, 200, 60)
    items = PairedItems.of(bits.tolist(), (1.1 * bits).tolist(), [50.0] * 60)
    found = compare_paired(items, Statistic.RECOVERY, higher_is_better=False)
    assert found.estimate == pytest.approx(1 / 1.1)
    assert found.method is Method.UNSEEN


def test_recovery_of_a_baseline_at_zero_is_undefined_not_one() -> None:
    found = compare_paired(PairedItems.of([0.0] * 20, [1.0] * 20), Statistic.RECOVERY)
    assert found.estimate is None
    assert found.low is None
    assert "no recovery" in (found.reason or "")


def test_too_few_units_get_an_estimate_without_an_interval() -> None:
    items = PairedItems.of([1.5] * 10 + [2.0] * 10, [1.4] * 10 + [2.1] * 10)
    found = compare_paired(items, Statistic.RECOVERY)
    assert found.estimate is not None
    assert (found.low, found.method) == (None, Method.NONE)
    assert "too few" in (found.reason or "")


def test_items_that_share_a_source_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    base = np.repeat(random.random(60) < 0.7, 10).astype(float)
    variant = np.repeat(random.random(60) < 0.7, 10).astype(float)
    sources = [str(i // 10) for i in range(600)]
    alone = compare_paired(PairedItems.of(base.tolist(), variant.tolist()), Statistic.DIFFERENCE)
    clustered = compare_paired(
        PairedItems.of(base.tolist(), variant.tolist(), cluster=sources), Statistic.DIFFERENCE
    )
    assert clustered.num_units == 60
    assert None not in (alone.low, alone.high, clustered.low, clustered.high)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)  # type: ignore[operator]


def test_models_that_agree_on_every_item_are_not_certain_to_be_equal() -> None:
    right = np.tile([1.0, 0.0, 1.0, 0.0], 50)
    sources = [str(n // 5) for n in range(200)]
    found = compare_paired(
        PairedItems.of(right.tolist(), right.tolist(), cluster=sources), Statistic.RECOVERY
    )
    assert found.method is Method.EXACT
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.985
    assert found.high > 1.015


def test_sign_flips_agree_with_the_exact_mcnemar_test() -> None:
    """Eight discordant items, seven of them lost: 2 * (1 + 8) / 2^8."""
    items = accuracies(num_items=40, num_lost=7, num_won=1)
    assert sign_flip_p_value(items) == pytest.approx(18 / 256)
    assert sign_flip_p_value(items, Alternative.LESS) == pytest.approx(9 / 256)


def test_drawn_sign_flips_are_near_the_enumerated_ones_and_never_zero() -> None:
    items = accuracies(num_items=200, num_lost=40, num_won=0)
    assert 0 < sign_flip_p_value(items) <= 1 / 5_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0], [1.0, 0.0]), "match in number"),
        (([float("nan")], [1.0]), "finite"),
        (([1.0], [1.0], [0.0]), "above zero"),
    ],
)
def test_items_that_cannot_be_paired_are_refused(
    arguments: tuple[list[float], ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        PairedItems.of(*arguments)


def test_a_model_that_lost_everything_has_a_recovery_of_zero_with_an_interval() -> None:
    lost = compare_paired(PairedItems.of([1.0] * 20 + [0.0] * 20, [0.0] * 40), Statistic.RECOVERY)
    assert lost.estimate == 0.0
    assert lost.low == 0.0
    assert lost.high is not None
    assert 0.0 < lost.high < 0.5
    nothing = compare_paired(PairedItems.of([0.0] * 40, [1.0] * 40), Statistic.RECOVERY)
    assert nothing.estimate is None
    assert nothing.low is None
