"""Many p-values at once: what is left of each when all of a family were looked at.

    holm([0.01, 0.04, 0.03])                 # (0.03, 0.06, 0.06): any error at all, at most alpha
    benjamini_hochberg([0.01, 0.04, 0.03])   # (0.03, 0.04, 0.04): the share of false discoveries

An adjusted p-value at or below alpha is a discovery of the family at level alpha. Holm
holds for any tests, Benjamini-Hochberg for independent and for positively dependent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: the probability of any false claim stays below alpha.

    Holm (1979), Scandinavian Journal of Statistics 6:65. Raises ValueError unless each is a number
    from 0 to 1.
    """
    values, order = _sorted(p_values)
    factors = np.arange(len(values), 0, -1)
    return _restored(np.maximum.accumulate(values * factors), order)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: the expected share of false claims stays below alpha.

    Benjamini & Hochberg (1995), J. Royal Statistical Society B 57:289; for positively dependent
    tests Benjamini & Yekutieli (2001), Annals of Statistics 29:1165. Raises ValueError as `holm`.
    """
    values, order = _sorted(p_values)
    factors = len(values) / np.arange(1, len(values) + 1)
    return _restored(np.minimum.accumulate((values * factors)[::-1])[::-1], order)


def _sorted(p_values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    for place, value in enumerate(p_values):
        if value is None or math.isnan(value) or not 0 <= value <= 1:
            raise ValueError(
                f"p-value {place} of {len(p_values)} is {value}; each must be from 0 to 1: "
                "leave out what was not tested"
            )
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    return values[order], order


def _restored(adjusted: np.ndarray, order: np.ndarray) -> tuple[float, ...]:
    found = np.empty(len(order))
    found[order] = np.minimum(adjusted, 1.0)
    return tuple(float(value) for value in found)
