"""Paired comparison of two models on the same items: an estimate, a 95% interval, a p-value.

Each item has a numerator for each model and one shared denominator; a score is
sum(numerator) / sum(denominator): accuracy (0 or 1 over 1), bits per byte (bits over bytes).

    pairs = PairedItems.of(baseline, variant, denominator, cluster=None)
    compare_paired(pairs, Statistic.RECOVERY, higher_is_better=True)

Which method answers is decided by the data, and stands in the answer:

    exact    0/1 items without clusters, below `MIN_SCORE_ITEMS` of them or `MIN_DISCORDANT` that
             differ: the exact unconditional interval (Chan & Zhang 1999); with clusters, where
             fewer than `MIN_UNITS` differ, on as many items as there are effective clusters
    score    more: the score interval of a ratio (Tang et al. 2003) or of a difference (Tango 1998)
             of paired proportions
    unseen   anything that is not 0/1, from `MIN_UNITS` independent units: Gaffke's (2005) interval,
             which holds for skewed units and leaves room for rare losses that the units seen do not
             show (tasks/analyze/unseen.py); units are clusters where items share a source. 0/1
             items, where so many clusters differ, never narrower than the score interval
    none     fewer units: no interval is offered, and the answer says why and how many it takes

Pure: no files, no clock; randomness is a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.analyze.comparison import Method, PairedComparison, Statistic, too_few
from tasks.analyze.exact import exact_interval, exact_p_values
from tasks.analyze.intervals import (
    DIFFERENCE,
    RATIO,
    PairedTable,
    Parameter,
    score_interval,
    score_p_values,
    standard_error_of_ratio,
)
from tasks.analyze.sign_flips import Alternative, p_value_of_signs
from tasks.analyze.unseen import UnseenTest

MIN_UNITS = 30  # below, skewed units are not covered; of clusters of 0/1 items, as many differ
MIN_BINARY_ITEMS = 10  # below, an exact interval would say next to nothing
MIN_SCORE_ITEMS = 300  # below, and with fewer discordant ones, the score test is not trusted
MIN_DISCORDANT = 50
UNBOUNDED = "the denominator is not clearly above zero, or every score is zero"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedItems:
    """Aligned arrays [num_items]; `cluster` numbers the source that items share."""

    baseline: Floats
    variant: Floats
    denominator: Floats
    cluster: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls,
        baseline: Sequence[float],
        variant: Sequence[float],
        denominator: Sequence[float] | None = None,
        cluster: Sequence[str] | None = None,
    ) -> PairedItems:
        """From plain sequences; raises ValueError unless they match in length and are finite."""
        ones = np.ones(len(baseline)) if denominator is None else denominator
        base, other, below = (
            np.asarray(values, dtype=np.float64) for values in (baseline, variant, ones)
        )
        lengths = {len(base), len(other), len(below)}
        if cluster is not None:
            lengths.add(len(cluster))
        if len(lengths) != 1:
            raise ValueError(f"paired items must match in number, found {sorted(lengths)}")
        if not all(np.isfinite(array).all() for array in (base, other, below)):
            raise ValueError("paired items must be finite numbers")
        if (below <= 0).any():
            raise ValueError("denominators must be above zero")
        numbers = None
        if cluster is not None:
            numbers = np.unique(list(cluster), return_inverse=True)[1].astype(np.int64)
        return cls(base, other, below, numbers)

    @property
    def is_binary(self) -> bool:
        """Whether every item is right or wrong, and counts once."""
        binary = np.isin(self.baseline, (0.0, 1.0)) & np.isin(self.variant, (0.0, 1.0))
        return bool(binary.all() and (self.denominator == 1.0).all())

    def units(self) -> tuple[Floats, Floats, Floats]:
        """Baseline, variant and denominator summed over each independent unit [num_units]."""
        if self.cluster is None:
            return self.baseline, self.variant, self.denominator
        base, variant, denominator = (
            np.bincount(self.cluster, weights=values).astype(np.float64)
            for values in (self.baseline, self.variant, self.denominator)
        )
        return base, variant, denominator


def compare_paired(
    items: PairedItems,
    statistic: Statistic,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> PairedComparison:
    """The estimate, its standard error, interval and p-value; see the module for the methods.

    Recovery is variant / baseline where higher is better and baseline / variant where lower is; it
    is undefined, not 1, where the baseline's score is not above zero.
    """
    question = PairedQuestion.of(items, statistic, higher_is_better)
    interval = question.interval(confidence)
    low, high = interval or (None, None)
    return PairedComparison(
        statistic=statistic,
        estimate=question.estimate,
        low=low,
        high=high if high is None or math.isfinite(high) else None,
        confidence=confidence,
        method=question.method if interval else Method.NONE,
        num_items=len(items.baseline),
        num_units=len(question.top),
        reason=question.reason or (None if interval else UNBOUNDED),
        standard_error=question.standard_error,
        p_value=None if question.estimate is None else sign_flip_p_value(items),
    )


@dataclass(frozen=True)
class TableTest:
    """A test of 0/1 items, exact or by scores, asked as `UnseenTest` is."""

    parameter: Parameter
    table: PairedTable
    interval_of: Callable[[Parameter, PairedTable, float], tuple[float, float]]
    p_values_of: Callable[[Parameter, PairedTable, float], tuple[float, float]]

    def interval(self, confidence: float) -> tuple[float, float]:
        return self.interval_of(self.parameter, self.table, confidence)

    def p_values(self, value: float) -> tuple[float, float]:
        return self.p_values_of(self.parameter, self.table, value)


@dataclass(frozen=True)
class PairedQuestion:
    """One comparison, the method that its data allow, and that method's test and interval."""

    items: PairedItems
    statistic: Statistic
    top: Floats  # sums over units [num_units]; what is estimated is sum(top) / sum(bottom)
    bottom: Floats
    table: PairedTable | None  # of 0/1 items
    method: Method
    estimate: float | None
    reason: str | None

    @classmethod
    def of(cls, items: PairedItems, statistic: Statistic, higher_is_better: bool) -> PairedQuestion:
        base, variant, denominator = items.units()
        if statistic is Statistic.DIFFERENCE:
            top, bottom = variant - base, denominator
            sides = items.variant, items.baseline
        elif higher_is_better:
            top, bottom, sides = variant, base, (items.variant, items.baseline)
        else:
            top, bottom, sides = base, variant, (items.baseline, items.variant)
        table = PairedTable.of(*sides) if items.is_binary else None
        estimate, method, reason = None, Method.NONE, None
        if not len(base):
            reason = "no item was answered by both"
        elif statistic is Statistic.RECOVERY and min(base.sum(), bottom.sum()) <= 0:
            reason = "a score at or below zero has no recovery"
        else:
            estimate = float(top.sum() / bottom.sum())
            method, reason = _method(items, table, variant - base)
        return cls(items, statistic, top, bottom, table, method, estimate, reason)

    @property
    def standard_error(self) -> float | None:
        """None for fewer than two units."""
        if self.estimate is None or len(self.top) < 2:
            return None
        return standard_error_of_ratio(self.top, self.bottom)

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """None where no method holds, or where its interval has no ends."""
        if not (spreads := [test.interval(confidence) for test in self._tests()]):
            return None
        return min(low for low, _ in spreads), max(high for _, high in spreads)

    def p_values(self, value: float) -> tuple[float, float] | None:
        """One-sided p-values of 'it is at most `value`' and 'at least `value`'; None as above."""
        if not (found := [test.p_values(value) for test in self._tests()]):
            return None
        return max(at_most for at_most, _ in found), max(at_least for _, at_least in found)

    def _tests(self) -> list[TableTest | UnseenTest]:
        """Those of the method: what none of them rejects is in the interval."""
        parameter = RATIO if self.statistic is Statistic.RECOVERY else DIFFERENCE
        tests: list[TableTest | UnseenTest] = []
        if self.method is Method.UNSEEN:
            if not (unseen := self.unseen_test()).holds:
                return []
            tests.append(unseen)
        if self.method is Method.EXACT:
            table = self.as_if_independent()
            tests.append(TableTest(parameter, table, exact_interval, exact_p_values))
        elif self.table is not None and self.method is not Method.NONE:
            # Beside `unseen`, as few items that differ say little, however well sources agree.
            tests.append(TableTest(parameter, self.table, score_interval, score_p_values))
        return tests

    def unseen_test(self) -> UnseenTest:
        """Units that may lose or gain a share of what a usual one scores under the better model."""
        base, variant, _ = self.items.units()
        level = max(abs(float(base.sum())), abs(float(variant.sum()))) / float(self.bottom.sum())
        return UnseenTest.of(self.top, self.bottom, level)

    def as_if_independent(self) -> PairedTable:
        """The table of as many items as there would be if those of a source were all one and alike.

        Effective sample size under the largest design effect, sum(size^2) / sum(size) (Kish 1965,
        Survey Sampling, 5.4), for the exact interval of a proportion from clusters (Korn & Graubard
        1998, Survey Methodology 24:193). Conservative where items of a source differ.
        """
        assert self.table is not None
        sizes = self.items.units()[2]
        alike = float((sizes**2).sum() / sizes.sum())
        counts = (self.table.both, self.table.only_top, self.table.only_bottom, self.table.total)
        return PairedTable(*(count / alike for count in counts))


def _method(
    items: PairedItems, table: PairedTable | None, differences: Floats
) -> tuple[Method, str | None]:
    """What holds its level on these data, or why nothing does."""
    num_units = len(differences)
    if table is not None and items.cluster is None:
        if num_units < MIN_BINARY_ITEMS:
            return Method.NONE, too_few("items", num_units, MIN_BINARY_ITEMS)
        few = table.total < MIN_SCORE_ITEMS or table.discordant < MIN_DISCORDANT
        return Method.EXACT if few else Method.SCORE, None
    if table is None:
        if num_units < MIN_UNITS:
            return Method.NONE, too_few("independent units", num_units, MIN_UNITS)
        return Method.UNSEEN, None
    if np.count_nonzero(differences) >= MIN_UNITS:
        return Method.UNSEEN, None
    if num_units < MIN_BINARY_ITEMS:
        return Method.NONE, too_few("independent sources", num_units, MIN_BINARY_ITEMS)
    return Method.EXACT, None


def sign_flip_p_value(
    items: PairedItems, alternative: Alternative = Alternative.TWO_SIDED, seed: int = 0
) -> float:
    """Permutation p-value of 'both models score alike' over the units of the items."""
    base, variant, _ = items.units()
    return p_value_of_signs(variant - base, alternative, seed)
