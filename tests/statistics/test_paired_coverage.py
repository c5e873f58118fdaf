"""Simulated coverage of the paired intervals wherever they are offered.

Data sets are drawn as counts and the test that an interval inverts is evaluated at the truth, for
each by the public functions; the nominal level is 0.95.
"""

from __future__ import annotations

import numpy as np
import pytest

from tasks.analyze.intervals import (
    PairedTable,
    difference_score_interval,
    fieller_interval,
    ratio_score_interval,
)
from tasks.analyze.paired import MIN_UNITS

NUM_DATA_SETS = 1_500
LEAST_COVERAGE = 0.93  # 0.94 less the noise of 1,500 data sets (2 standard errors)


@pytest.mark.parametrize("num_items", [10, 30, 100, 1_000])
@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.98])
@pytest.mark.parametrize("drop", [0.0, 0.05])
def test_score_intervals_cover_the_truth(num_items: int, accuracy: float, drop: float) -> None:
    """From 10 items on, also where nearly every item is right."""
    random = np.random.default_rng(num_items)
    only_bottom = min(drop + 0.06, accuracy)
    only_top = only_bottom - drop
    if accuracy + only_top > 1:
        only_bottom, only_top = drop + (1 - accuracy), 1 - accuracy
    cells = [accuracy - only_bottom, only_top, only_bottom, 1 - accuracy - only_top]
    drawn = random.multinomial(num_items, cells, size=NUM_DATA_SETS)
    covered_ratio = covered_difference = 0
    for (both, top, bottom, _), count in zip(
        *np.unique(drawn, axis=0, return_counts=True), strict=True
    ):
        table = PairedTable(both, top, bottom, num_items)
        low, high = ratio_score_interval(table, 0.95)
        covered_ratio += count * (low <= (accuracy - drop) / accuracy <= high)
        low, high = difference_score_interval(table, 0.95)
        covered_difference += count * (low <= -drop <= high)
    assert covered_ratio / NUM_DATA_SETS >= LEAST_COVERAGE
    assert covered_difference / NUM_DATA_SETS >= LEAST_COVERAGE


@pytest.mark.parametrize("num_units", [MIN_UNITS, 300])
@pytest.mark.parametrize("skew", [0.3, 0.8])
def test_fieller_covers_the_truth_for_skewed_paired_sums(num_units: int, skew: float) -> None:
    """Bits of documents (log-normal lengths) under two models that differ by 3% in the mean."""
    random = np.random.default_rng(num_units)
    covered = 0
    for _ in range(NUM_DATA_SETS):
        bottom = random.lognormal(5.0, skew, num_units)
        top = bottom * random.normal(1.03, 0.02, num_units)
        interval = fieller_interval(top, bottom, 0.95)
        assert interval is not None
        covered += interval[0] <= 1.03 <= interval[1]
    assert covered / NUM_DATA_SETS >= LEAST_COVERAGE
