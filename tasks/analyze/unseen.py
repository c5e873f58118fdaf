"""A ratio of sums over independent units that may hide a few of another kind: no normal theory.

    found = UnseenTest.of(top, bottom, level)      # sums of units [num_units]
    found.interval(0.95), found.p_values(0.99)

The upper bound of a mean by Gaffke (2005, 'Three test statistics for a nonparametric one-sided
hypothesis on the mean of a nonnegative variable', Mathematical Methods of Statistics 14:451; as an
interval: Learned-Miller & Thomas 2019, arXiv:1905.06208): one unit as bad as any could be is added
to those seen, and all get random weights, uniform over what adds up to 1. For 0/1 units that is the
exact interval of Clopper & Pearson; for others it covers whatever their distribution, as long as
none lies beyond that one unit.

How bad a unit could be is the one assumption, without which no sample bounds a mean (Bahadur &
Savage 1956, Annals of Mathematical Statistics 27:1115): `UNSEEN_CHANGE` of the score, or
`BEYOND_SEEN` times as far off as the farthest seen. So thirty documents without a loss leave open
that every ninth loses 30%, a hundred that every 28th does. What losses beyond 30% in fewer
documents than are seen would do is not covered: no data tell of it.

The weighted sum is one of exponential variables; its tail is the saddlepoint formula of Lugannani &
Rice (1980, Advances in Applied Probability 12:475), no random draws. Coverage, from 30 units on:
tests/statistics/test_unseen.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tasks.analyze.intervals import Floats

UNSEEN_CHANGE = 0.3  # of the score: what a unit unlike all those seen is taken to lose or gain
BEYOND_SEEN = 1.5  # times the largest deviation seen, where that is more
NUM_NEWTON_STEPS = 60
NUM_BISECTIONS = 30  # an end to 1e-9 of its distance
LARGEST_STEPS = 60  # doublings on the way out from the estimate


@dataclass(frozen=True)
class UnseenTest:
    """The units seen [num_units], and the one added below and above: (top, bottom) each."""

    top: Floats
    bottom: Floats
    lowest: tuple[float, float]
    highest: tuple[float, float]

    @classmethod
    def of(cls, top: Floats, bottom: Floats, level: float) -> UnseenTest:
        """`level` is what `UNSEEN_CHANGE` is a share of: the score of a unit of size 1.

        The units added have the root mean square size, as the long ones weigh most.
        """
        size = math.sqrt(float((bottom**2).mean()))
        ratio = float(top.sum() / bottom.sum())
        off = top - ratio * bottom
        change = UNSEEN_CHANGE * abs(level) * size
        down = max(change, -BEYOND_SEEN * float(off.min()))
        up = max(change, BEYOND_SEEN * float(off.max()))
        return cls(top, bottom, (ratio * size - down, size), (ratio * size + up, size))

    @property
    def holds(self) -> bool:
        """Whether units have a size, and something is known of how far off one may be."""
        has_sizes = bool((self.bottom >= 0).all()) and self.bottom.sum() > 0
        return has_sizes and self.lowest[0] < self.highest[0]

    def p_values(self, value: float) -> tuple[float, float]:
        """One-sided p-values of 'the ratio is at most `value`' and of 'it is at least `value`'."""
        return self._at_most(value), self._at_least(value)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Every value that neither one-sided test rejects."""
        tail = (1 - confidence) / 2
        estimate = float(self.top.sum() / self.bottom.sum())
        step = (self.highest[0] - self.lowest[0]) / self.highest[1]
        step /= len(self.top)
        low, high = estimate, estimate
        for doubling in range(LARGEST_STEPS):
            low = estimate - step * 2.0**doubling
            if self._at_most(low) <= tail:
                break
        for doubling in range(LARGEST_STEPS):
            high = estimate + step * 2.0**doubling
            if self._at_least(high) <= tail:
                break
        inner_low, inner_high = estimate, estimate
        for _ in range(NUM_BISECTIONS):
            middle = (low + inner_low) / 2
            low, inner_low = (middle, inner_low) if self._at_most(middle) <= tail else (low, middle)
            middle = (high + inner_high) / 2
            is_out = self._at_least(middle) <= tail
            high, inner_high = (middle, inner_high) if is_out else (high, middle)
        return low, high

    def _at_most(self, value: float) -> float:
        added = self.lowest[0] - value * self.lowest[1]
        return _chance_below_zero(np.append(self.top - value * self.bottom, added))

    def _at_least(self, value: float) -> float:
        added = self.highest[0] - value * self.highest[1]
        return _chance_below_zero(-np.append(self.top - value * self.bottom, added))


def _chance_below_zero(terms: Floats) -> float:
    """Probability that sum(terms * E) is at most 0 for independent standard exponentials E."""
    lowest, highest = float(terms.min()), float(terms.max())
    if highest <= 0:
        return 1.0
    if lowest >= 0:
        return 0.0
    terms = terms / max(highest, -lowest)
    total, squares = float(terms.sum()), float(terms @ terms)
    if abs(total) < 1e-6 * math.sqrt(squares):  # the formula's limit at the mean
        return NormalDist().cdf(float((terms**3).sum()) / (3 * squares**1.5))
    # The saddlepoint is where sum(terms / (1 - t * terms)), which rises in t, is zero.
    low, high = 1 / float(terms.min()), 1 / float(terms.max())
    low, high = (low, 0.0) if total > 0 else (0.0, high)
    t = 0.0
    for _ in range(NUM_NEWTON_STEPS):
        slopes = terms / (1 - t * terms)
        slope = float(slopes.sum())
        low, high = (low, t) if slope > 0 else (t, high)
        step = t - slope / float(slopes @ slopes)
        last, t = t, step if low < step < high else (low + high) / 2
        if abs(t - last) <= 1e-10 * abs(t):
            break
    shrunk = 1 - t * terms
    w = math.copysign(math.sqrt(max(2 * float(np.log(shrunk).sum()), 0.0)), t)
    u = t * math.sqrt(float(((terms / shrunk) ** 2).sum()))
    return NormalDist().cdf(w + math.log(u / w) / w)
