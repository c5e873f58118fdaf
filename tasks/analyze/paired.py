"""Paired comparison of two models on the same items: an estimate, a 95% interval, a p-value.

Each item has a numerator for each model and one shared denominator; a score is
sum(numerator) / sum(denominator): accuracy (0 or 1 over 1), bits per byte (bits over bytes).

    pairs = PairedItems.of(baseline, variant, denominator, cluster=None)
    compare_paired(pairs, Statistic.RECOVERY, higher_is_better=True)

Which method answers is decided by the data, and stands in the answer:

    score    0/1 items without clusters: the score interval of a ratio (Tang et al. 2003) or of
             a difference (Tango 1998) of paired proportions, which holds its level at small n
    fieller  anything else, from `MIN_UNITS` independent units on: Fieller's (1954) interval of a
             ratio of paired means with Student's t; units are clusters where items share a source;
             with 0/1 items never narrower than the score interval
    none     fewer units: no interval is offered, and the answer says why

Pure: no files, no clock; randomness is a seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.analyze.intervals import (
    PairedTable,
    difference_score_interval,
    fieller_interval,
    ratio_score_interval,
)
from tasks.spec import Frozen

MIN_UNITS = 30  # below, Student's t cannot make up for skewed units
MIN_BINARY_ITEMS = 10
MAX_EXACT_UNITS = 14  # 2^14 sign patterns are enumerated; beyond, they are drawn
NUM_PERMUTATIONS = 10_000

Floats = NDArray[np.float64]


class Statistic(StrEnum):
    """What is compared."""

    RECOVERY = "recovery"  # variant / baseline, inverted where lower is better
    DIFFERENCE = "difference"  # variant - baseline


class Method(StrEnum):
    """How the interval was made."""

    SCORE = "score"
    FIELLER = "fieller"
    NONE = "none"


class Alternative(StrEnum):
    """The claim that a test may support: the variant's score is … the baseline's."""

    TWO_SIDED = "two-sided"
    GREATER = "greater"
    LESS = "less"


class PairedComparison(Frozen):
    """An estimate with its interval; `low` and `high` are absent where no method holds."""

    statistic: Statistic = Field(description="What was compared.")
    estimate: float | None = Field(description="Point estimate; absent where it is undefined.")
    low: float | None = Field(description="Lower end of the interval.")
    high: float | None = Field(description="Upper end of the interval.")
    confidence: float = Field(description="Nominal coverage of the interval, e.g. 0.95.")
    method: Method = Field(description="How the interval was made.")
    num_items: int = Field(description="Items that both models answered.")
    num_units: int = Field(description="Independent units: clusters, or items without clusters.")
    reason: str | None = Field(default=None, description="Why there is no estimate or interval.")


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
    """The estimate and its interval; see the module's docstring for the methods.

    Recovery is variant / baseline where higher is better and baseline / variant where lower is; it
    is undefined, not 1, where the baseline's score is not above zero.
    """
    base, variant, denominator = items.units()
    num_units = len(base)

    def answer(
        estimate: float | None,
        interval: tuple[float, float] | None,
        method: Method,
        reason: str | None,
    ) -> PairedComparison:
        low, high = interval or (None, None)
        return PairedComparison(
            statistic=statistic,
            estimate=estimate,
            low=low,
            high=high,
            confidence=confidence,
            method=method if interval else Method.NONE,
            num_items=len(items.baseline),
            num_units=num_units,
            reason=reason,
        )

    if num_units == 0:
        return answer(None, None, Method.NONE, "no item was answered by both")
    if statistic is Statistic.DIFFERENCE:
        top, bottom = variant - base, denominator
    else:
        top, bottom = (variant, base) if higher_is_better else (base, variant)
        if base.sum() <= 0 or bottom.sum() <= 0:
            return answer(None, None, Method.NONE, "a score at or below zero has no recovery")
    estimate = float(top.sum() / bottom.sum())
    if items.is_binary and items.cluster is None:
        if num_units < MIN_BINARY_ITEMS:
            reason = f"{num_units} items are too few for an interval ({MIN_BINARY_ITEMS} needed)"
            return answer(estimate, None, Method.NONE, reason)
        interval = _score_interval(items, statistic, higher_is_better, confidence)
        return answer(estimate, interval, Method.SCORE, None)
    if num_units < MIN_UNITS:
        reason = f"{num_units} independent units are too few for an interval ({MIN_UNITS} needed)"
        return answer(estimate, None, Method.NONE, reason)
    spread = fieller_interval(top, bottom, confidence)
    if spread is None:
        return answer(estimate, None, Method.NONE, "the denominator is not clearly above zero")
    if items.is_binary:
        # Few items that differ say little, however well their sources agree.
        alone = _score_interval(items, statistic, higher_is_better, confidence)
        spread = min(spread[0], alone[0]), max(spread[1], alone[1])
    return answer(estimate, spread, Method.FIELLER, None)


def _score_interval(
    items: PairedItems, statistic: Statistic, higher_is_better: bool, confidence: float
) -> tuple[float, float]:
    """The score interval of 0/1 items, as if each was independent."""
    if statistic is Statistic.DIFFERENCE:
        return difference_score_interval(PairedTable.of(items.variant, items.baseline), confidence)
    pair = (items.variant, items.baseline) if higher_is_better else (items.baseline, items.variant)
    return ratio_score_interval(PairedTable.of(*pair), confidence)


def sign_flip_p_value(
    items: PairedItems, alternative: Alternative = Alternative.TWO_SIDED, seed: int = 0
) -> float:
    """Permutation p-value of 'both models score alike': unit differences are symmetric about zero.

    All sign patterns are enumerated for at most `MAX_EXACT_UNITS` units that differ, else
    `NUM_PERMUTATIONS` are drawn and counted with the observed one (Phipson & Smyth 2010).
    """
    base, variant, _ = items.units()
    differences = (variant - base)[variant != base]
    if not len(differences):
        return 1.0
    observed = _extremity(np.array([differences.sum()]), alternative)[0]
    tolerance = 1e-12 * np.abs(differences).sum()
    if len(differences) <= MAX_EXACT_UNITS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
        return float((_extremity(signs @ differences, alternative) >= observed - tolerance).mean())
    draws = np.random.default_rng(seed).choice((-1.0, 1.0), (NUM_PERMUTATIONS, len(differences)))
    as_extreme = (_extremity(draws @ differences, alternative) >= observed - tolerance).sum()
    return float((as_extreme + 1) / (NUM_PERMUTATIONS + 1))


def _extremity(sums: Floats, alternative: Alternative) -> Floats:
    """Larger is stronger evidence for the alternative."""
    match alternative:
        case Alternative.GREATER:
            return sums
        case Alternative.LESS:
            return -sums
        case Alternative.TWO_SIDED:
            return np.abs(sums)
