"""The numbers that a gate judges, each with its interval: pure, from what other steps measured.

paired(comparison)                                 # of tasks.analyze.paired
repeats([41.0, 43.5, 42.2], confidence=0.95)       # of tasks.analyze.repeats
score(score, samples, confidence=0.95)             # exact for 0/1 items

Where no interval holds its level there is none, and the answer says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.analyze.comparison import PairedComparison, Statistic, too_few
from tasks.analyze.paired import PairedItems, compare_paired
from tasks.analyze.power import more_items_needed
from tasks.analyze.repeats import mean_of_repeats
from tasks.analyze.rows import Sample
from tasks.benchmark.spec import LoadPoint
from tasks.errors import nearest
from tasks.evaluate.spec import Score
from tasks.gate.judge import Measured

LEVELS = (50, 90, 95, 99)  # percentiles that a load point holds
MIN_STDERR_ITEMS = 300  # below, a standard error is not known well enough to make an interval


def paired(comparison: PairedComparison) -> Measured:
    """A recovery or difference, with the interval of its comparison."""
    return Measured(
        comparison.estimate,
        comparison.low,
        comparison.high,
        comparison.num_units,
        reason=comparison.reason or "",
        num_more=lambda threshold: more_items_needed(comparison, threshold),
    )


def perplexity_ratio(difference: PairedComparison) -> Measured:
    """2^difference in bits per byte: both ends of its interval are taken along."""
    found = paired(difference)

    def power(bits: float | None) -> float | None:
        return None if bits is None else 2.0**bits

    return replace(
        found,
        number=power(found.number),
        low=power(found.low),
        high=power(found.high),
        num_more=lambda threshold: more_items_needed(difference, math.log2(threshold)),
    )


def ratio(top: float | None, bottom: float | None) -> Measured:
    """An exact ratio, which needs no interval."""
    if top is None or bottom is None:
        return Measured.missing("it was not measured")
    if not (math.isfinite(top) and math.isfinite(bottom)) or top <= 0 or bottom <= 0:
        return Measured.missing(f"{top:g} over {bottom:g} is no ratio of sizes")
    return Measured(top / bottom, top / bottom, top / bottom, 1, "models")


def repeats(values: Sequence[float], confidence: float) -> Measured:
    """Geometric mean over repeats of a load; requests within one are not independent."""
    if not values or not all(math.isfinite(value) for value in values):
        return Measured.missing("it was not measured in every repeat")
    if min(values) <= 0:
        return Measured.missing(f"a repeat measured {min(values):g}, which is not above zero")
    found = mean_of_repeats(values, confidence)
    return Measured(found.estimate, found.low, found.high, len(values), "repeats", found.reason)


def at_load(points: Sequence[LoadPoint], load: str) -> list[LoadPoint]:
    """The repeats of a load; ValueError with the nearest label where there is none."""
    found = [point for point in points if point.load == load]
    if not found:
        labels = list(dict.fromkeys(point.load for point in points))
        known = nearest(load, labels) or (f"; there are {', '.join(labels)}" if labels else "")
        raise ValueError(f"no load '{load}' was measured{known}")
    return found


def latency(
    points: Sequence[LoadPoint], quantity: str, percentile: str, confidence: float
) -> Measured:
    """A percentile over all requests, by repeat; those that did not succeed took for ever.

    Of n requests of which f failed, were cut off or lost, the percentile q of all is that of the
    successes at level q / (1 - f/n). Between recorded levels it is bounded: by q of the successes
    from below, by the next recorded level from above. The answer is that upper bound, with an
    interval that reaches from the lower end of the one to the upper end of the other.
    """
    wanted = int(percentile.removeprefix("p"))
    least, most = [], []
    for point in points:
        found = getattr(point, quantity)
        if found is None:
            return Measured.missing(f"repeat {point.repeat} has no {quantity}")
        num_bad = point.num_errored + point.num_incomplete + point.num_lost
        total = num_bad + point.num_successful
        level = next((p for p in LEVELS if p * point.num_successful >= wanted * total), None)
        if level is None:
            is_lost = num_bad * 100 >= (100 - wanted) * total
            why = "" if is_lost else f", and nothing above p{LEVELS[-1]} was recorded"
            share = f"{num_bad} of {total} requests of repeat {point.repeat}"
            return Measured.missing(f"{share} did not succeed{why}")
        least.append(float(getattr(found, percentile)))
        most.append(float(getattr(found, f"p{level}")))
    upper = repeats(most, confidence)
    return replace(upper, low=repeats(least, confidence).low)


def score(score: Score, samples: Mapping[str, Sample] | None, confidence: float) -> Measured:
    """A score by itself, its items independent or grouped by their source.

    Clopper & Pearson (1934), Biometrika 26:404, for 0/1 items: exact, and so conservative. Other
    items as in a comparison, with a baseline of zero. Scores without items, such as F1, are taken
    as of so many 0/1 items as their standard error tells: see `_from_standard_error`.
    """
    if not samples:
        return _from_standard_error(score, confidence)
    lines = [samples[item] for item in sorted(samples)]
    sources = [line.cluster for line in lines]
    items = PairedItems.of(
        [0.0] * len(lines),
        [line.numerator for line in lines],
        [line.denominator for line in lines],
        [source or item for source, item in zip(sources, sorted(samples), strict=True)]
        if any(sources)
        else None,
    )
    estimate = float(items.variant.sum() / items.denominator.sum())
    num_right = float(items.variant.sum())
    exact = _binomial(num_right, len(lines), confidence) if items.is_binary else None
    if exact is not None and items.cluster is None:
        return Measured(estimate, *exact, len(lines))
    found = paired(compare_paired(items, Statistic.DIFFERENCE, confidence=confidence))
    if exact is None or found.low is None or found.high is None:
        return found
    # Items that agree within few sources say no more than as many independent ones would.
    return replace(found, low=min(found.low, exact[0]), high=max(found.high, exact[1]))


def _binomial(right: float, num: float, confidence: float) -> tuple[float, float]:
    """Clopper & Pearson's interval; the numbers may be fractions, of effective items."""
    from scipy import stats

    tail = (1 - confidence) / 2
    low = 0.0 if right == 0 else float(stats.beta.ppf(tail, right, num - right + 1))
    high = 1.0 if right == num else float(stats.beta.ppf(1 - tail, right + 1, num - right))
    return low, high


def _from_standard_error(score: Score, confidence: float) -> Measured:
    """The exact interval of so many 0/1 items as would have the standard error, at most all.

    Korn & Graubard (1998), Survey Methodology 24:193. A score 1.96 standard errors either way
    covers 93% at 300 items and a score of 0.98 (tests/statistics/test_scores.py). Where guessing r
    was taken out, (s - r) / (1 - r), items are not 0/1 and there is no interval: of 1,000 items
    with s = 0.255 and r = 0.25 it covered 87%.
    """
    value, num = score.value, score.num_items

    def refused(reason: str) -> Measured:
        return Measured(value, num_units=num, reason=reason)

    if score.stderr is None:
        return refused("its standard error is not known")
    if num < MIN_STDERR_ITEMS:
        return refused(too_few("items without their answers", num, MIN_STDERR_ITEMS))
    if any(part.random_score > 0 for part in score.parts):
        return refused(
            "a standard error makes no interval of a score that guessing is taken out of"
        )
    if not 0 < value < 1:
        return refused("a standard error makes an interval of scores between 0 and 1 only")
    if not score.stderr > 0:
        return refused("a standard error of zero says nothing about the spread of its items")
    effective = min(float(num), value * (1 - value) / score.stderr**2)
    return Measured(value, *_binomial(value * effective, effective, confidence), num)
