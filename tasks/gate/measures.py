"""The numbers that a gate judges, each with its interval: pure, from what other steps measured.

recovery(comparison)                               # of tasks.analyze.paired
repeats([41.0, 43.5, 42.2], confidence=0.95)       # mean over repeats, Student's t
score(score, samples, confidence=0.95)             # exact for 0/1 items

Where no interval holds its level there is none, and the answer says why.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.analyze.comparison import PairedComparison, Statistic
from tasks.analyze.paired import PairedItems, compare_paired
from tasks.analyze.power import more_items_needed
from tasks.analyze.rows import Sample
from tasks.benchmark.spec import LoadPoint
from tasks.errors import nearest
from tasks.evaluate.spec import Score
from tasks.gate.judge import Measured

MIN_SKEWED_UNITS = 60  # below, Student's t covers less than 94% where scores are skewed
LEVELS = (50, 90, 95, 99)  # percentiles that a load point holds
MIN_NORMAL_ITEMS = 300  # below, a standard error alone makes no interval


def paired(comparison: PairedComparison) -> Measured:
    """A recovery or difference, with the interval of its comparison."""
    return Measured(
        comparison.estimate,
        comparison.low,
        comparison.high,
        comparison.num_items,
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
    """Mean over repeats of a load with Student's t; requests within one are not independent."""
    from scipy import stats

    if not values or not all(math.isfinite(value) for value in values):
        return Measured.missing("it was not measured in every repeat")
    mean, num = statistics.fmean(values), len(values)
    if num == 1:
        return Measured(mean, num_units=1, unit="repeats", reason="one repeat has no interval")
    quantile = float(stats.t.ppf((1 + confidence) / 2, num - 1))
    reach = quantile * statistics.stdev(values) / math.sqrt(num)
    return Measured(mean, mean - reach, mean + reach, num, "repeats")


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
    items as in a comparison, with a baseline of zero, from `MIN_SKEWED_UNITS` on. Scores without
    items, such as F1 or group averages, have their standard error, from `MIN_NORMAL_ITEMS` on.
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
    num_units = len(items.units()[0])
    estimate = float(items.variant.sum() / items.denominator.sum())
    exact = _binomial(items, confidence) if items.is_binary else None
    if exact is not None and items.cluster is None:
        return Measured(estimate, *exact, len(lines))
    if num_units < MIN_SKEWED_UNITS:
        reason = f"{num_units} independent units are too few for an interval"
        return Measured(
            estimate, num_units=len(lines), reason=f"{reason} ({MIN_SKEWED_UNITS} needed)"
        )
    found = paired(compare_paired(items, Statistic.DIFFERENCE, confidence=confidence))
    if exact is None or found.low is None or found.high is None:
        return found
    # Items that agree within few sources say no more than as many independent ones would.
    return replace(found, low=min(found.low, exact[0]), high=max(found.high, exact[1]))


def _binomial(items: PairedItems, confidence: float) -> tuple[float, float]:
    from scipy import stats

    right, num = float(np.sum(items.variant)), len(items.variant)
    tail = (1 - confidence) / 2
    low = 0.0 if right == 0 else float(stats.beta.ppf(tail, right, num - right + 1))
    high = 1.0 if right == num else float(stats.beta.ppf(1 - tail, right + 1, num - right))
    return low, high


def _from_standard_error(score: Score, confidence: float) -> Measured:
    value, num = score.value, score.num_items
    if score.stderr is None:
        return Measured(value, num_units=num, reason="its standard error is not known")
    if num < MIN_NORMAL_ITEMS:
        reason = f"{num} items are too few for its standard error ({MIN_NORMAL_ITEMS} needed)"
        return Measured(value, num_units=num, reason=reason)
    reach = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * score.stderr
    return Measured(value, value - reach, value + reach, num)
