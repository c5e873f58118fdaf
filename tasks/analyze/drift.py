"""What happened to a level over time: a slow drift, a step to another level, or single wild values.

    find_drift(levels)         # None, or a Trend
    last_shift(levels)         # index of the first value of the present level; 0: never shifted
    without_outliers(levels)

Arrays are [num_nights], oldest first. A step looks like a trend to a test of trends, and a trend
like a step to a test of steps: a drift is only what a line fits better than the best step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tasks.analyze.intervals import Floats

DRIFT_NIGHTS = 30  # the last so many are searched for a drift
MIN_DRIFT_NIGHTS = 15
DRIFT_ALPHA = 0.004
MIN_SHIFT_NIGHTS = 10  # a new level is one when it lasted so long
SHIFT_SIGMAS = 5.0  # of the difference of medians before and after
OUTLIER_SIGMAS = 3.5
NORMAL_MAD = 1.4826  # standard deviation of a normal over its median absolute deviation


class Trend(NamedTuple):
    """A monotone change."""

    slope: float  # per night
    num_nights: int
    p_value: float


def find_drift(levels: Floats) -> Trend | None:
    """A significant trend of the last nights that is no step; None where there is none."""
    recent = levels[-DRIFT_NIGHTS:]
    if len(recent) < MIN_DRIFT_NIGHTS:
        return None
    p_value = mann_kendall_p_value(recent)
    if p_value > DRIFT_ALPHA:
        return None
    time = np.arange(len(recent))
    first, second = np.triu_indices(len(recent), 1)
    slope = float(np.median((recent[second] - recent[first]) / (second - first)))  # Sen's
    off_line = recent - slope * time
    if np.abs(off_line - np.median(off_line)).sum() > _off_best_step(recent):
        return None
    return Trend(slope, len(recent), p_value)


def mann_kendall_p_value(values: Floats) -> float:
    """Two-sided p-value of 'no monotone trend', normal with continuity correction (Mann 1945)."""
    n = len(values)
    first, second = np.triu_indices(n, 1)
    score = float(np.sign(values[second] - values[first]).sum())
    variance = n * (n - 1) * (2 * n + 5) / 18
    return math.erfc(max(abs(score) - 1, 0.0) / math.sqrt(2 * variance))


def last_shift(levels: Floats) -> int:
    """Where the present level began: steps are looked for again after each one found."""
    start = 0
    while (step := _largest_step(levels[start:])) is not None:
        start += step
    return start


def _largest_step(levels: Floats) -> int | None:
    """The clearest step with enough nights after it and a few before; None where none is clear.

    Noise is estimated from differences of successive nights, which one step hardly moves.
    """
    n = len(levels)
    if n < MIN_SHIFT_NIGHTS + 5:
        return None
    noise = NORMAL_MAD * float(np.median(np.abs(np.diff(levels)))) / math.sqrt(2)
    if noise == 0:
        return None
    best, place = SHIFT_SIGMAS, None
    for cut in range(5, n - MIN_SHIFT_NIGHTS + 1):
        distance = abs(float(np.median(levels[:cut]) - np.median(levels[cut:])))
        # A median varies pi / 2 times as much as a mean.
        sigmas = distance / (noise * math.sqrt(math.pi / 2 * (1 / cut + 1 / (n - cut))))
        if sigmas > best:
            best, place = sigmas, cut
    return place


def without_outliers(levels: Floats) -> Floats:
    """The values within `OUTLIER_SIGMAS` robust standard deviations of the median."""
    off = np.abs(levels - np.median(levels))
    scale = NORMAL_MAD * float(np.median(off))
    return levels[off <= OUTLIER_SIGMAS * scale] if scale > 0 else levels


def _off_best_step(levels: Floats) -> float:
    """Absolute deviations left by the best two levels."""
    return min(
        float(
            np.abs(levels[:cut] - np.median(levels[:cut])).sum()
            + np.abs(levels[cut:] - np.median(levels[cut:])).sum()
        )
        for cut in range(3, len(levels) - 2)
    )
