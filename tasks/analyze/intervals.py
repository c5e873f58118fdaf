"""Tests of paired data and the intervals that they leave: pure formulas with their sources.

An interval holds every value that a test does not reject. With 0/1 pairs only three numbers count:
items that the top model alone has right, that the bottom model alone has right, and the trials:

    RATIO       P(top) / P(bottom); trials are the items that any has right
    DIFFERENCE  P(top) - P(bottom); trials are all items

    score_interval(RATIO, table, 0.95)   # asymptotic; `exact.exact_interval` where it fails
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BISECTION_STEPS = 60
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

    @property
    def discordant(self) -> float:
        return self.only_top + self.only_bottom


@dataclass(frozen=True)
class Parameter:
    """What is estimated from a trinomial (only top, only bottom, neither alone) of some trials.

    `statistic(only_top, only_bottom, trials, value)` is the score statistic of 'it is `value`':
    standard normal under it where trials are many, falling in `value`. `cells(value, discordance)`
    are the probabilities of the first two cells under it; `least_discordance(value)` is where they
    begin to be probabilities.
    """

    lowest: float
    highest: float
    trials: Callable[[PairedTable], float]
    estimate: Callable[[PairedTable], float]
    statistic: Callable[[Floats, Floats, float, float], Floats]
    cells: Callable[[float, Floats], tuple[Floats, Floats]]
    least_discordance: Callable[[float], float]


def _ratio_statistic(only_top: Floats, only_bottom: Floats, trials: float, ratio: float) -> Floats:
    """Tang, Tang & Chan (2003), Statistics in Medicine 22:1217, with the restricted estimate of
    the discordant cell; items that neither has right cancel out of it."""
    top, bottom = trials - only_bottom, trials - only_top
    a = 1 + ratio
    b = bottom * ratio**2 - (top + 2 * only_bottom)
    c = only_bottom * (1 - ratio) * trials
    cell = (-b + np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))) / (2 * a)
    return _standardised(top - ratio * bottom, a * cell + trials * (ratio - 1))


def _difference_statistic(
    only_top: Floats, only_bottom: Floats, trials: float, difference: float
) -> Floats:
    """Tango (1998), Statistics in Medicine 17:891."""
    b, c, n = only_top, only_bottom, trials
    w = -b - c + (2 * n - b + c) * difference
    root = np.sqrt(np.maximum(w * w + 8 * n * c * difference * (1 - difference), 0.0))
    cell = (root - w) / (4 * n)
    variance = n * (2 * cell + difference * (1 - difference))
    return _standardised(b - c - n * difference, variance)


def _ratio_estimate(table: PairedTable) -> float:
    bottom = table.both + table.only_bottom
    return (table.both + table.only_top) / bottom if bottom else math.inf


def _ratio_cells(ratio: float, discordance: Floats) -> tuple[Floats, Floats]:
    only_top = (discordance - 1 + ratio) / (1 + ratio)
    return only_top, discordance - only_top


RATIO = Parameter(
    lowest=0.0,
    highest=LARGEST_RATIO,
    trials=lambda table: table.both + table.discordant,
    estimate=_ratio_estimate,
    statistic=_ratio_statistic,
    cells=_ratio_cells,
    least_discordance=lambda ratio: 1 - min(ratio, 1 / ratio if ratio else 0.0),
)

DIFFERENCE = Parameter(
    lowest=-1.0,
    highest=1.0,
    trials=lambda table: table.total,
    estimate=lambda table: (table.only_top - table.only_bottom) / table.total,
    statistic=_difference_statistic,
    cells=lambda value, discordance: ((discordance + value) / 2, (discordance - value) / 2),
    least_discordance=abs,
)


def score_p_values(parameter: Parameter, table: PairedTable, value: float) -> tuple[float, float]:
    """One-sided p-values of 'it is at most `value`' and of 'it is at least `value`'."""
    counts = np.array([table.only_top]), np.array([table.only_bottom])
    statistic = float(parameter.statistic(*counts, parameter.trials(table), value)[0])
    return NormalDist().cdf(-statistic), NormalDist().cdf(statistic)


def score_interval(
    parameter: Parameter, table: PairedTable, confidence: float
) -> tuple[float, float]:
    """Every value that the score test does not reject.

    Asymptotic: below a few hundred trials, or with few discordant ones, `exact_interval` holds its
    level and this does not. Coverage: tests/statistics/test_paired_coverage.py.
    """
    return invert(
        lambda value: score_p_values(parameter, table, value), parameter, table, confidence
    )


def invert(
    p_values: Callable[[float], tuple[float, float]],
    parameter: Parameter,
    table: PairedTable,
    confidence: float,
    steps: int = BISECTION_STEPS,
) -> tuple[float, float]:
    """Where the one-sided p-values on both sides of the estimate cross (1 - confidence) / 2."""
    if parameter.trials(table) == 0:
        return parameter.lowest, math.inf if parameter is RATIO else parameter.highest
    tail = (1 - confidence) / 2
    estimate = parameter.estimate(table)
    low = _cross(lambda value: p_values(value)[0] <= tail, parameter.lowest, estimate, steps)
    high = _cross(lambda value: p_values(value)[1] > tail, estimate, parameter.highest, steps)
    return low, high


def _cross(holds: Callable[[float], bool], low: float, high: float, steps: int) -> float:
    """Where what holds at `low` ends, on the way to `high`; infinite where it never does."""
    if low >= LARGEST_RATIO or holds(min(high, LARGEST_RATIO)):
        return high if high < LARGEST_RATIO else math.inf
    if high >= LARGEST_RATIO:  # first find the magnitude
        high = max(2 * low, 1.0)
        while holds(high):
            low, high = high, 2 * high
            if high > LARGEST_RATIO:
                return math.inf
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _standardised(distance: Floats, variance: Floats) -> Floats:
    spread = np.sqrt(np.maximum(variance, 0.0))
    certain = np.copysign(np.inf, distance)
    found = np.divide(distance, spread, out=certain, where=spread > 0)
    return np.where(np.abs(distance) < 1e-12, 0.0, found)


def standard_error_of_ratio(top: Floats, bottom: Floats) -> float:
    """Of sum(top) / sum(bottom) over independent units [num_units >= 2], linearised (Taylor)."""
    off = top - top.sum() / bottom.sum() * bottom
    # Differences that should cancel leave rounding errors.
    off[np.abs(off) < 1e-12 * np.abs(top).max()] = 0.0
    num_units = len(top)
    return math.sqrt(float(off @ off) * num_units / (num_units - 1)) / abs(float(bottom.sum()))
