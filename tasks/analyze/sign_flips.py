"""Signs flipped at random: how often differences of no direction would add up to as much.

    p_value_of_signs(np.array([1.0, -1.0, 1.0, 1.0, 0.0]), Alternative.TWO_SIDED)

Under 'both models score alike' each difference might as well have had the other sign.
"""

from __future__ import annotations

import itertools
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_EXACT_UNITS = 14  # 2^14 sign patterns are enumerated; beyond, they are drawn
MAX_EXACT_SUM = 20_000  # of whole differences whose sums are counted
NUM_PERMUTATIONS = 10_000
PERMUTATIONS_AT_ONCE = 100  # as many fit in memory for a million items


class Alternative(StrEnum):
    """The claim that a test may support: the variant's score is … the baseline's."""

    TWO_SIDED = "two-sided"
    GREATER = "greater"
    LESS = "less"


def p_value_of_signs(
    differences: Floats, alternative: Alternative = Alternative.TWO_SIDED, seed: int = 0
) -> float:
    """Permutation p-value of 'differences [num_units] are symmetric about zero', by their sum.

    Exact where units differ by whole numbers (0/1 items: McNemar's exact test) or at most
    `MAX_EXACT_UNITS` differ; else `NUM_PERMUTATIONS` sign patterns are drawn and counted with the
    observed one (Phipson & Smyth 2010, Statistical Applications in Genetics 9:39).
    """
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    total = np.abs(differences).sum()
    if (differences == np.round(differences)).all() and total <= MAX_EXACT_SUM:
        sums, probabilities = _signed_sums(np.abs(differences).astype(np.int64))
        observed = _extremity(np.array([differences.sum()]), alternative)[0]
        return float(min(1.0, probabilities[_extremity(sums, alternative) >= observed].sum()))
    observed = _extremity(np.array([differences.sum()]), alternative)[0] - 1e-12 * total
    if len(differences) <= MAX_EXACT_UNITS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
        return float((_extremity(signs @ differences, alternative) >= observed).mean())
    random = np.random.default_rng(seed)
    as_extreme = 0
    for _ in range(NUM_PERMUTATIONS // PERMUTATIONS_AT_ONCE):
        signs = random.integers(0, 2, (PERMUTATIONS_AT_ONCE, len(differences))) * 2.0 - 1.0
        as_extreme += int((_extremity(signs @ differences, alternative) >= observed).sum())
    return float((as_extreme + 1) / (NUM_PERMUTATIONS + 1))


def _signed_sums(magnitudes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Every sum of the magnitudes under random signs, and its probability."""
    from scipy import stats

    probabilities = np.ones(1)  # of the sum of those with a plus, from 0 on
    for size, number in zip(*np.unique(magnitudes, return_counts=True), strict=True):
        spaced = np.zeros(size * number + 1)
        spaced[::size] = stats.binom.pmf(np.arange(number + 1), number, 0.5)
        probabilities = np.convolve(probabilities, spaced)
    return 2.0 * np.arange(len(probabilities)) - magnitudes.sum(), probabilities


def _extremity(sums: Floats, alternative: Alternative) -> Floats:
    """Larger is stronger evidence for the alternative."""
    match alternative:
        case Alternative.GREATER:
            return sums
        case Alternative.LESS:
            return -sums
        case Alternative.TWO_SIDED:
            return np.abs(sums)
