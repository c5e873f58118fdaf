"""Confidence intervals for paired data, each by inverting a test: pure formulas with their sources.

A score interval holds every value that the score test does not reject; with 0/1 pairs it keeps its
level where a Wald or percentile interval fails (few items, few discordant pairs, scores near 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BISECTION_STEPS = 100
LARGEST_RATIO = 1e9


@dataclass(frozen=True)
class PairedTable:
    """Counts of 0/1 pairs (top, bottom): both right, only top right, only bottom right, all."""

    both: float
    only_top: float
    only_bottom: float
    total: float

    @classmethod
    def of(cls, top: Floats, bottom: Floats) -> PairedTable:
        return cls(
            both=float((top * bottom).sum()),
            only_top=float((top * (1 - bottom)).sum()),
            only_bottom=float(((1 - top) * bottom).sum()),
            total=float(len(top)),
        )


def ratio_score_interval(table: PairedTable, confidence: float) -> tuple[float, float]:
    """Interval of P(top) / P(bottom) from paired 0/1 items.

    Tang, Tang & Chan (2003), Statistics in Medicine 22:1217, the score statistic with the
    restricted maximum-likelihood estimate of the discordant cell. The upper end is infinite where
    no bottom item is right. Simulated coverage: tests/statistics/test_paired_coverage.py.
    """
    top, bottom = table.both + table.only_top, table.both + table.only_bottom
    if bottom == 0:
        return 0.0, math.inf
    any_right = table.both + table.only_top + table.only_bottom

    def statistic(ratio: float) -> float:
        a = table.total * (1 + ratio)
        b = bottom * ratio**2 - (top + 2 * table.only_bottom)
        c = table.only_bottom * (1 - ratio) * any_right / table.total
        cell = (-b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
        variance = table.total * (1 + ratio) * cell + any_right * (ratio - 1)
        return _standardised(top - ratio * bottom, variance)

    estimate = top / bottom
    bound = NormalDist().inv_cdf((1 + confidence) / 2)
    low = 0.0 if top == 0 else _cross(statistic, bound, 0.0, estimate)
    return low, _cross(statistic, -bound, estimate, LARGEST_RATIO)


def difference_score_interval(table: PairedTable, confidence: float) -> tuple[float, float]:
    """Interval of P(top) - P(bottom) from paired 0/1 items: Tango (1998), Stat. Med. 17:891."""
    n, b, c = table.total, table.only_top, table.only_bottom

    def statistic(difference: float) -> float:
        w = -b - c + (2 * n - b + c) * difference
        root = math.sqrt(max(w * w + 8 * n * c * difference * (1 - difference), 0.0))
        cell = (root - w) / (4 * n)
        variance = n * (2 * cell + difference * (1 - difference))
        return _standardised(b - c - n * difference, variance)

    estimate = (b - c) / n
    bound = NormalDist().inv_cdf((1 + confidence) / 2)
    return _cross(statistic, bound, -1.0, estimate), _cross(statistic, -bound, estimate, 1.0)


def fieller_interval(top: Floats, bottom: Floats, confidence: float) -> tuple[float, float] | None:
    """Interval of mean(top) / mean(bottom) over independent pairs [num_units].

    Fieller (1954), J. Royal Statistical Society B 16:175, with Student's t; None where the mean of
    `bottom` is not significantly above zero, as the set of accepted ratios is then unbounded.
    """
    from scipy import stats

    n = len(top)
    quantile = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    (var_top, covariance), (_, var_bottom) = np.cov(top, bottom) / n
    mean_top, mean_bottom = float(top.mean()), float(bottom.mean())
    a = mean_bottom**2 - quantile**2 * var_bottom
    b = mean_top * mean_bottom - quantile**2 * covariance
    c = mean_top**2 - quantile**2 * var_top
    if a <= 0 or mean_bottom <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)


def _standardised(distance: float, variance: float) -> float:
    if abs(distance) < 1e-12:
        return 0.0
    return math.copysign(math.inf, distance) if variance <= 0 else distance / math.sqrt(variance)


def _cross(statistic: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a decreasing statistic crosses a level, between two ends, by bisection."""
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2 if high < LARGEST_RATIO else max(2 * low, 1e-3)
        if statistic(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
