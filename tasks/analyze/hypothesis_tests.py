"""Tests beside the sign-flip test of `paired`: Wilcoxon's signed ranks, a mean below a threshold.

    wilcoxon_signed_rank([0.3, -0.1, 0.8, 0.5]).p_value
    mean_below_p_value([3.2781, 3.2776, 3.2779], threshold=3.28, sd=0.0013)

Signed ranks ask whether differences are symmetric about zero and weigh them by rank: less moved by
a few wild items than the sign-flip test, and blind to how wild they are. A claim about a mean score
needs the sign-flip test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from pydantic import Field

from tasks.analyze.sign_flips import Alternative
from tasks.spec import Frozen

MAX_EXACT_RANKS = 50  # beyond, ranks are many enough for the normal approximation


class RankMethod(StrEnum):
    """How a p-value of signed ranks was found."""

    EXACT = "exact"  # all 2^n signs of the ranks, counted
    PERMUTED = "permuted"  # ties: all signs at most 13 differences, else 9,999 drawn ones
    NORMAL = "normal"  # with the variance corrected for ties
    NONE = "none"  # nothing differs


class SignedRankTest(Frozen):
    """Wilcoxon's test and what was done about ties and zeros."""

    p_value: float = Field(ge=0, le=1, description="Of 'differences are symmetric about zero'.")
    statistic: float = Field(description="Sum of the ranks of positive differences.")
    num_differences: int = Field(description="Differences that are not zero: those ranked.")
    num_zeros: int = Field(description="Differences of zero, left out (Wilcoxon 1945).")
    has_ties: bool = Field(description="Whether some differences share a rank (midranks).")
    method: RankMethod = Field(description="How the p-value was found.")


def wilcoxon_signed_rank(
    differences: Sequence[float],
    alternative: Alternative = Alternative.TWO_SIDED,
    seed: int = 0,
) -> SignedRankTest:
    """Wilcoxon (1945), Biometrics Bulletin 1:80, by scipy; exact for at most 50 differences.

    Zeros are left out and counted in the answer; tied differences get their mean rank. The exact
    table holds without ties; with ties, few differences are permuted instead. Raises ValueError
    where a difference is not a finite number.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite numbers")
    ranked = values[values != 0]
    ranks = stats.rankdata(np.abs(ranked))
    has_ties = len(np.unique(ranks)) < len(ranks)
    p_value = 1.0
    if not len(ranked):
        method = RankMethod.NONE
    else:
        if len(ranked) > MAX_EXACT_RANKS:
            method, how = RankMethod.NORMAL, "asymptotic"
        elif has_ties:
            method = RankMethod.PERMUTED
            how = stats.PermutationMethod(n_resamples=9_999, rng=np.random.default_rng(seed))
        else:
            method, how = RankMethod.EXACT, "exact"
        p_value = float(stats.wilcoxon(ranked, alternative=alternative.value, method=how).pvalue)
    return SignedRankTest(
        p_value=p_value,
        statistic=float(ranks[ranked > 0].sum()),
        num_differences=len(ranked),
        num_zeros=len(values) - len(ranked),
        has_ties=has_ties,
        method=method,
    )


def mean_below_p_value(values: Sequence[float], threshold: float, sd: float | None = None) -> float:
    """One-sided p-value of 'the mean is at least the threshold', by the z test or Student's t.

    Where the spread of a value is known, p = 1 - Phi((threshold - mean) * sqrt(n) / sd); without it
    the spread is that of the values, and p of Student's t. Raises ValueError without a value,
    without a spread, or where a spread is to be told from fewer than two different values.
    """
    if not len(values) or (sd is not None and sd <= 0):
        raise ValueError("a z test needs a value and a spread above zero")
    mean = math.fsum(values) / len(values)
    if sd is not None:
        return NormalDist().cdf(-(threshold - mean) * math.sqrt(len(values)) / sd)
    if len(set(values)) < 2:
        raise ValueError(f"{len(values)} values that do not differ tell no spread: give `sd`")
    from scipy import stats

    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(stats.t.sf((threshold - mean) / spread, len(values) - 1))
