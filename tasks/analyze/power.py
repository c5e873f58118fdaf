"""How many items or repeats it takes to see a drop, before or after measuring.

    items_needed(0.01, discordance=0.06)            # 0/1 items: some 4,700 to see one point
    smallest_detectable_drop(500, discordance=0.06)
    more_items_needed(comparison, threshold=0.99)   # a gate that could say neither
    repeats_needed(0.03, sd=0.01)

Discordance is the share of items that one model gets right and the other wrong; `sd` is the
standard deviation of an item's difference, or of a repeat's logarithm (about its relative spread).
Tests are two-sided at `alpha`. Power of 0/1 items is that of the exact sign-flip test, summed over
the number of discordant items, of everything else that of Student's t test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING

from tasks.analyze.comparison import PairedComparison

if TYPE_CHECKING:
    from tasks.analyze.repeats import RepeatComparison

POWER = 0.8  # chance that so many see it
MOST = 100_000_000  # items; a drop that needs more cannot be measured


def paired_power(num_items: int, drop: float, discordance: float, alpha: float = 0.05) -> float:
    """Probability that the exact two-sided sign-flip test of 0/1 items sees a drop of accuracy.

    The number of discordant items is binomial(num_items, discordance), of which the variant loses
    a share (1 + drop / discordance) / 2. Connor (1987), Biometrics 43:207 approximates this sum.
    """
    from scipy import stats

    _check(drop, discordance=discordance)
    number = stats.binom(num_items, discordance)
    counts = range(int(number.ppf(1e-9)), int(number.ppf(1 - 1e-9)) + 1)
    # `least` wins or fewer reject: P(at most least | fair) <= alpha / 2.
    least = stats.binom.ppf(alpha / 2, counts, 0.5)
    least -= stats.binom.cdf(least, counts, 0.5) > alpha / 2
    won = (1 - drop / discordance) / 2
    seen = stats.binom.cdf(least, counts, won) + stats.binom.cdf(least, counts, 1 - won)
    return float((number.pmf(counts) * seen).sum())


def mean_power(num_items: int, drop: float, sd: float, alpha: float = 0.05) -> float:
    """Probability that a paired t test sees a drop of the mean; the noncentral t distribution."""
    _check(drop, sd=sd)
    return _t_power(drop / sd * math.sqrt(num_items), num_items - 1, alpha)


def repeats_power(num_repeats: int, drop: float, sd: float, alpha: float = 0.05) -> float:
    """As `mean_power`, for `compare_repeats` with so many repeats of equal spread a side."""
    _check(drop, sd=sd)
    noncentrality = -math.log1p(-drop) / sd * math.sqrt(num_repeats / 2)
    return _t_power(noncentrality, 2 * num_repeats - 2, alpha, num_repeats - 1)


def items_needed(
    drop: float,
    *,
    discordance: float | None = None,
    sd: float | None = None,
    power: float = POWER,
    alpha: float = 0.05,
) -> int:
    """Items with which a drop (of accuracy or mean, absolute) is seen with the given power.

    Give `discordance` for 0/1 items, `sd` for others. Raises ValueError for what no number of items
    can show.
    """
    return _least(_power_of_items(drop, discordance, sd, alpha), power)


def repeats_needed(drop: float, sd: float, power: float = POWER, alpha: float = 0.05) -> int:
    """Repeats of each side with which a relative drop, e.g. 0.03, is seen."""
    return _least(lambda n: repeats_power(n, drop, sd, alpha), power)


def smallest_detectable_drop(
    num_items: int,
    *,
    discordance: float | None = None,
    sd: float | None = None,
    power: float = POWER,
    alpha: float = 0.05,
) -> float | None:
    """The least drop that so many items show with the given power; None where they show none."""
    if discordance is not None:
        largest = discordance
    elif sd is not None:
        largest = 1e3 * sd
    else:
        raise ValueError("give discordance or sd")

    def has_power(drop: float) -> bool:
        return _power_of_items(drop, discordance, sd, alpha)(num_items) >= power

    if num_items < 2 or not has_power(largest):
        return None
    low, high = 0.0, largest
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if has_power(middle) else (middle, high)
    return high


def more_items_needed(
    comparison: PairedComparison, threshold: float, power: float = POWER
) -> int | None:
    """Items beyond those there are with which the interval would clear or undercut the threshold.

    If the estimate holds and items go on as these were, with the given power. 0 where the interval
    is on one side already; None where no number of items can be told: no interval, or an estimate
    on the threshold.
    """
    return more_needed(
        comparison.num_items,
        comparison.estimate,
        (comparison.low, comparison.high),
        threshold,
        comparison.confidence,
        power,
        comparison.standard_error,
    )


def more_repeats_needed(
    comparison: RepeatComparison, threshold: float, power: float = POWER
) -> int | None:
    """Repeats of each side beyond those there are, as `more_items_needed`."""
    return more_needed(
        comparison.num_repeats,
        comparison.estimate,
        (comparison.low, comparison.high),
        threshold,
        comparison.confidence,
        power,
    )


def more_needed(
    number: int,
    estimate: float | None,
    interval: tuple[float | None, float | None],
    threshold: float,
    confidence: float,
    power: float = POWER,
    standard_error: float | None = None,
) -> int | None:
    """As `more_items_needed`, for any number with its interval.

    Solved for the root of the share that `number` is of all items. An interval's half, towards the
    threshold, is some standard errors, which shrink with the root of the number, and what it leaves
    open beyond: rare losses that were not seen, which shrink with the number itself. Where that is
    not told apart, all of it is taken as standard errors.
    """
    low, high = interval
    if estimate is None or low is None or high is None or estimate == threshold:
        return None
    if low > threshold or high < threshold:
        return 0
    quantile, more_for_power = (
        NormalDist().inv_cdf(share) for share in ((1 + confidence) / 2, power)
    )
    half = estimate - low if estimate > threshold else high - estimate
    error = half / quantile if standard_error is None else min(standard_error, half / quantile)
    open_ = half - quantile * error
    gap, linear = abs(estimate - threshold), (quantile + more_for_power) * error
    root = 2 * gap / (linear + math.sqrt(linear**2 + 4 * open_ * gap))
    in_all = number / root**2
    return max(1, math.ceil(in_all) - number) if in_all <= MOST else None


def _power_of_items(
    drop: float, discordance: float | None, sd: float | None, alpha: float
) -> Callable[[int], float]:
    if (discordance is None) == (sd is None):
        raise ValueError("give either discordance (of 0/1 items) or sd (of differences)")
    if discordance is not None:
        return lambda n: paired_power(n, drop, discordance, alpha)
    assert sd is not None
    return lambda n: mean_power(n, drop, sd, alpha)


def _least(power_of: Callable[[int], float], power: float) -> int:
    """The least number that has the power, to within the saw-teeth of exact tests."""
    high = 2
    while power_of(high) < power:
        if high > MOST:
            raise ValueError(f"even {MOST:,} would not show so small a drop")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _t_power(
    noncentrality: float, degrees: int, alpha: float, claimed_degrees: int | None = None
) -> float:
    """Of a t statistic against the bound of as many, or of fewer `claimed_degrees`."""
    from scipy import stats

    if degrees < 1:
        return 0.0
    bound = stats.t.ppf(1 - alpha / 2, claimed_degrees or degrees)
    upper = stats.nct.sf(bound, degrees, noncentrality)
    # scipy's noncentral t loses its far tail to NaN where the power is 1 or 0 anyway.
    return float(upper) if math.isfinite(upper) else float(noncentrality > bound)


def _check(drop: float, discordance: float | None = None, sd: float | None = None) -> None:
    if drop <= 0:
        raise ValueError(f"a drop is above zero, not {drop}")
    if sd is not None and sd <= 0:
        raise ValueError(f"sd is above zero, not {sd}")
    if discordance is not None and not drop <= discordance <= 1:
        raise ValueError(
            f"discordance is from the drop ({drop}) to 1, not {discordance}: each lost item is one"
        )
