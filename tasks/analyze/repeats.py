"""Throughput and latency of two sides, A and B: the repeat is the unit, a request never is.

    compare_repeats([101.2, 99.8, 100.4, 100.9], [97.1, 97.9, 96.8, 97.3], order="ABABABAB")

The answer is the ratio B / A of geometric means with a t interval of logarithms from `MIN_REPEATS`
a side; below, their spread is not known and there is none. Its degrees of freedom are those of the
side with fewer, which holds the level for normal logarithms whatever the spread of each side
(Mickey & Brown 1966, Annals of Mathematical Statistics 37:639), and 94% for heavy tails and for a
skewness up to 1 with one side three times as spread (tests/statistics/test_repeats.py); beyond that
repeats are too few to show what they are like. Welch's degrees of freedom cover 93% there, and a
bootstrap over repeats is not offered: up to 40 of them its percentiles cover 82% to 94%, the
studentised one from 91% on.

One side alone has `mean_of_repeats`, with two degrees of freedom fewer than repeats: with one fewer
it covers 93% where logarithms have a skewness of 1.

A and B should take turns: then a machine that warms up slows both alike, and `drift` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from pydantic import Field

from tasks.analyze.comparison import too_few
from tasks.analyze.intervals import Floats
from tasks.spec import Frozen

MIN_REPEATS = 3  # a side
DRIFT_ALPHA = 0.01
ALL_EQUAL = "all repeats are equal: nothing is known about their spread"


class RepeatMethod(StrEnum):
    """How the interval was made."""

    STUDENT = "student"
    NONE = "none"


class Drift(Frozen):
    """Whether values rise or fall in the order they were measured, whichever side they are of."""

    change_per_repeat: float = Field(description="Relative, e.g. -0.002: each 0.2% below the last.")
    p_value: float = Field(description="Of 'no drift': t test of the slope beside the two means.")
    is_found: bool = Field(description=f"Whether p is at most {DRIFT_ALPHA}.")
    is_balanced: bool = Field(
        description="Whether the sides took turns, so that a drift is no difference between them."
    )


class RepeatComparison(Frozen):
    """B / A; `low` and `high` are absent where no method holds."""

    estimate: float = Field(description="Ratio of geometric means, B / A.")
    low: float | None = Field(description="Lower end of the interval.")
    high: float | None = Field(description="Upper end of the interval.")
    confidence: float = Field(description="Nominal coverage of the interval.")
    method: RepeatMethod = Field(description="How the interval was made.")
    num_repeats: int = Field(description="Of the side with fewer.")
    p_value: float | None = Field(description="Of 'B is as A': two-sided, of the same t.")
    drift: Drift | None = Field(description="Absent without an order, or with too few repeats.")
    reason: str | None = Field(default=None, description="Why there is no interval, or no trust.")


class RepeatMean(NamedTuple):
    """The geometric mean of repeats; `low` and `high` are absent where no method holds."""

    estimate: float
    low: float | None = None
    high: float | None = None
    reason: str = ""


def mean_of_repeats(values: Sequence[float], confidence: float = 0.95) -> RepeatMean:
    """The geometric mean with a t interval of logarithms, from `MIN_REPEATS` unequal repeats on.

    Raises ValueError where there is none, or one is not a number above zero.
    """
    logarithms = _logarithms("one side", values)
    number, mean = len(logarithms), float(logarithms.mean())
    if number < MIN_REPEATS:
        return RepeatMean(math.exp(mean), reason=too_few("repeats", number, MIN_REPEATS))
    spread = float(logarithms.std(ddof=1)) / math.sqrt(number)
    if np.ptp(logarithms) == 0:
        return RepeatMean(float(values[0]), reason=ALL_EQUAL)
    half = _t_quantile((1 + confidence) / 2, max(number - 2, 1.5)) * spread
    return RepeatMean(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def compare_repeats(
    a: Sequence[float],
    b: Sequence[float],
    order: str | None = None,
    confidence: float = 0.95,
) -> RepeatComparison:
    """The ratio B / A; `order` says which side each repeat was of, as they ran: "ABBAAB".

    Raises ValueError where a value is not a number above zero, a side is empty, or the order does
    not have as many of each as there are values.
    """
    first, second = _logarithms("A", a), _logarithms("B", b)
    if order is not None and (order.count("A"), order.count("B"), len(order)) != (
        len(a),
        len(b),
        len(a) + len(b),
    ):
        raise ValueError(f"order '{order}' is not {len(a)} times A and {len(b)} times B")
    num_repeats = min(len(a), len(b))
    drift = None if order is None else _drift(first, second, order)
    distance = float(second.mean() - first.mean())
    method, reason, p_value = RepeatMethod.NONE, None, None
    low = high = None
    if num_repeats < MIN_REPEATS:
        reason = too_few("repeats", num_repeats, MIN_REPEATS)
    elif np.ptp(first) == 0 and np.ptp(second) == 0:
        reason = ALL_EQUAL
    elif drift is not None and drift.is_found and not drift.is_balanced:
        change = f"{100 * drift.change_per_repeat:+.2f}% a repeat"
        reason = (
            f"values drift ({change}) and the sides did not take turns: measure again, in turns"
        )
    else:
        variances = [values.var(ddof=1) / len(values) for values in (first, second)]
        spread, degrees = math.sqrt(sum(variances)), num_repeats - 1
        p_value = _two_sided(distance / spread, degrees)
        method = RepeatMethod.STUDENT
        factor = math.exp(_t_quantile((1 + confidence) / 2, degrees) * spread)
        low, high = math.exp(distance) / factor, math.exp(distance) * factor
    return RepeatComparison(
        estimate=math.exp(distance),
        low=low,
        high=high,
        confidence=confidence,
        method=method,
        num_repeats=num_repeats,
        p_value=p_value,
        drift=drift,
        reason=reason,
    )


def _logarithms(side: str, values: Sequence[float]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if not len(found) or not np.isfinite(found).all() or (found <= 0).any():
        raise ValueError(f"repeats of {side} must be numbers above zero, found {list(values)}")
    return np.log(found)


def _drift(first: Floats, second: Floats, order: str) -> Drift | None:
    """Slope over time beside a mean for each side, by least squares of logarithms."""
    if len(order) < 5:
        return None
    sides = np.array([side == "B" for side in order], dtype=np.float64)
    values = np.empty(len(order))
    values[sides == 0], values[sides == 1] = first, second
    time = np.arange(len(order), dtype=np.float64)
    time -= time.mean()
    is_b = sides - sides.mean()
    confounding = float(np.corrcoef(time, sides)[0, 1])
    is_balanced = abs(confounding) < 0.5
    own = time - is_b * (time @ is_b) / (is_b @ is_b)  # what of time is not the side
    slope = float(own @ values / (own @ own))
    residuals = values - values.mean() - is_b * (values @ is_b) / (is_b @ is_b) - slope * own
    degrees = len(order) - 3
    spread = math.sqrt(float(residuals @ residuals) / degrees / float(own @ own))
    p_value = _two_sided(slope / spread, degrees) if spread > 0 else float(slope == 0)
    return Drift(
        change_per_repeat=math.expm1(slope),
        p_value=p_value,
        is_found=p_value <= DRIFT_ALPHA,
        is_balanced=is_balanced,
    )


def _two_sided(ratio: float, degrees: int) -> float:
    from scipy import stats

    return float(2 * stats.t.sf(abs(ratio), degrees))


def _t_quantile(probability: float, degrees: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(probability, degrees))
