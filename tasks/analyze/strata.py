"""The ratio of two averages over tasks, each task a stratum of paired items.

    StratifiedRatio(variant, baseline, (Stratum.of("navigate", [metric]), …)).interval(0.95)

An average is A = sum(k_i s_i) + constant over tasks i (normalised: k_i = factor / (1 - guess)),
its recovery R = A(variant) / A(baseline). 'R is r' is tested by A(variant) - r A(baseline), linear
in the scores: tasks are strata with variances of their own, items or the sources that they share
the units (Cochran 1977, Sampling Techniques, 5.3), Satterthwaite's (1946) degrees of freedom. The
interval holds every r that is not rejected, as Fieller's (1954). A variance is taken after one half
is added to each cell of a task's table (Agresti & Min 2005, Statistics in Medicine 24:729), as
twenty items on which two models agree do not prove that they always do. Metrics of one task are
paired with each other; tasks that share items may move together: their errors add up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BISECTION_STEPS = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """Sums of one metric over the units [num_units] of a task, and its slope k in the average."""

    baseline: Floats
    variant: Floats
    denominator: Floats
    slope: float


@dataclass(frozen=True)
class Stratum:
    """One task as it enters an average: variances of k s for both models."""

    items: str
    num_units: int
    differences: Floats  # of the average, by unit
    var_variant: float
    var_baseline: float
    covariance: float

    @classmethod
    def of(cls, items: str, metrics: Sequence[Metric]) -> Stratum:
        """Of one task, whose metrics are over the same units."""
        num_units = len(metrics[0].denominator)
        weights = np.concatenate([np.ones(num_units), np.full(4, 0.5)])
        variant, baseline = np.zeros(num_units + 4), np.zeros(num_units + 4)
        differences = np.zeros(num_units)
        for metric in metrics:
            size = metric.denominator.mean()
            total = metric.denominator.sum() + 2 * size
            below = np.concatenate([metric.denominator, np.full(4, size)])
            for found, values, cells in (
                (variant, metric.variant, (1, 1, 0, 0)),
                (baseline, metric.baseline, (1, 0, 1, 0)),
            ):
                values = np.concatenate([values, size * np.array(cells)])
                score = (weights * values).sum() / total
                found += metric.slope * (values - score * below) / total
            change = metric.variant - metric.baseline
            differences += metric.slope * change / metric.denominator.sum()
        scale = weights.sum() / (weights.sum() - 1)
        return cls(
            items,
            num_units,
            differences,
            var_variant=float(scale * (weights * variant**2).sum()),
            var_baseline=float(scale * (weights * baseline**2).sum()),
            covariance=float(scale * (weights * variant * baseline).sum()),
        )

    def variance(self, ratio: float) -> float:
        """Of k (s(variant) - ratio s(baseline))."""
        spread = self.var_variant - 2 * ratio * self.covariance + ratio**2 * self.var_baseline
        return max(spread, 0.0)


@dataclass(frozen=True)
class StratifiedRatio:
    """`variant` / `baseline`, two averages over the same strata."""

    variant: float
    baseline: float
    strata: tuple[Stratum, ...]

    @property
    def estimate(self) -> float:
        return self.variant / self.baseline

    @property
    def standard_error(self) -> float:
        """Linearised (delta method)."""
        return self._spread(self.estimate)[0] / self.baseline

    def p_values(self, value: float) -> tuple[float, float]:
        """One-sided p-values of 'the ratio is at most `value`' and of 'it is at least `value`'."""
        from scipy import stats

        spread, freedom = self._spread(value)
        upper = float(stats.t.sf((self.variant - value * self.baseline) / spread, freedom))
        return upper, 1 - upper

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """None where the baseline is not clearly above zero: what is accepted is unbounded then."""
        tail = (1 - confidence) / 2
        zero = StratifiedRatio(
            self.baseline, 1.0, tuple(_of_baseline(stratum) for stratum in self.strata)
        )
        if zero.p_values(0.0)[0] > tail:
            return None
        return self._end(-1, tail), self._end(1, tail)

    def _end(self, direction: int, tail: float) -> float:
        """Where what is accepted ends on one side of the estimate."""
        inside, reach = self.estimate, 4 * self.standard_error
        while min(self.p_values(inside + direction * reach)) > tail:
            inside, reach = inside + direction * reach, 2 * reach
        outside = inside + direction * reach
        for _ in range(BISECTION_STEPS):
            middle = (inside + outside) / 2
            is_accepted = min(self.p_values(middle)) > tail
            inside, outside = (middle, outside) if is_accepted else (inside, middle)
        return (inside + outside) / 2

    def _spread(self, value: float) -> tuple[float, float]:
        """Standard error of variant - value * baseline, and its degrees of freedom."""
        errors: dict[str, float] = defaultdict(float)
        units: dict[str, int] = {}
        for stratum in self.strata:
            errors[stratum.items] += math.sqrt(stratum.variance(value))
            units[stratum.items] = min(
                units.get(stratum.items, stratum.num_units), stratum.num_units
            )
        variance = math.fsum(error**2 for error in errors.values())
        fourths = math.fsum(error**4 / (units[items] - 1) for items, error in errors.items())
        return math.sqrt(variance), variance**2 / fourths


def _of_baseline(stratum: Stratum) -> Stratum:
    """The baseline alone, for a test of whether it is above zero."""
    return Stratum(
        stratum.items, stratum.num_units, stratum.differences, stratum.var_baseline, 0.0, 0.0
    )
