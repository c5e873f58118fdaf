"""One rule for what may be said of a difference, wherever it is told: compare, analyze, ablations.

    corrected([0.01, None, 0.04])                       # Holm's: [0.02, None, 0.04]
    judge(comparison, p_corrected=0.02)                 # Outcome.WORSE

A difference is claimed where its interval excludes "none" and its p-value, corrected over all tests
that are told together, is at most what the interval leaves out. Else it is undecided: an interval
that excludes "none" by itself is one of many, and one that is not there excludes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from tasks.analyze.comparison import PairedComparison, Statistic
from tasks.analyze.multiplicity import benjamini_hochberg, holm
from tasks.analyze.repeats import RepeatComparison

ROUNDING = 1e-12  # 1 - 0.95 is a little more than 0.05


class Outcome(StrEnum):
    """What may be said of a number in two runs."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # the same without a known direction, or numbers without chance
    UNDECIDED = "undecided"  # chance explains the difference, or nothing tells
    EQUAL = "equal"  # the very same number
    NOT_COMPARABLE = "not comparable"


class Correction(StrEnum):
    """How p-values are corrected that are told together."""

    HOLM = "holm"  # the chance of any false claim
    BH = "bh"  # Benjamini-Hochberg: the expected share of false ones among the claims

    @property
    def words(self) -> str:
        return {"holm": "Holm", "bh": "Benjamini-Hochberg"}[self.value]


def corrected(
    p_values: Sequence[float | None], correction: Correction = Correction.HOLM
) -> list[float | None]:
    """Of one family, in the order given; what was not tested stays absent and does not count."""
    method = holm if correction is Correction.HOLM else benjamini_hochberg
    adjusted = iter(method([value for value in p_values if value is not None]))
    return [None if value is None else next(adjusted) for value in p_values]


def none_of(found: PairedComparison | RepeatComparison) -> float:
    """The value at which both are alike: of a difference 0, of a ratio 1."""
    is_ratio = isinstance(found, RepeatComparison) or found.statistic is Statistic.RECOVERY
    return 1.0 if is_ratio else 0.0


def judge(
    found: PairedComparison | RepeatComparison,
    p_corrected: float | None,
    higher_is_better: bool | None = True,
) -> Outcome:
    """Which way they differ, if they do; a recovery is above 1 where the variant is better."""
    none = none_of(found)
    is_above = found.low is not None and found.low > none
    is_below = found.high is not None and found.high < none
    is_likely_chance = p_corrected is None or p_corrected > 1 - found.confidence + ROUNDING
    if is_likely_chance or not (is_above or is_below):
        return Outcome.UNDECIDED
    if higher_is_better is None:
        return Outcome.DIFFERENT
    return Outcome.BETTER if is_above is higher_is_better else Outcome.WORSE
