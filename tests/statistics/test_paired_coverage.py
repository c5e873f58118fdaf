"""Simulated coverage of intervals of 0/1 items wherever they are offered: at least 94 of 100.

10,000 data sets a cell. A table that was drawn twice is looked at once. Where an interval is made
by bisection, the test that it inverts is evaluated at the truth, which it holds where that test
does not reject it; `test_an_exact_interval_holds_what_its_test_accepts` compares the two.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tasks.analyze.comparison import Method, Statistic
from tasks.analyze.exact import exact_interval, exact_p_values
from tasks.analyze.intervals import DIFFERENCE, RATIO, Floats, PairedTable
from tasks.analyze.paired import PairedItems, PairedQuestion

NUM_DATA_SETS = 10_000
LEAST_COVERAGE = 0.94
RANDOM_SEED = 20261121

# Accuracy of the baseline, share of items that one alone has right, drop of accuracy.
QUICK = [(0.5, 0.2, 0.05), (0.8, 0.06, 0.05), (0.98, 0.02, 0.02)]
GRID = [
    (accuracy, discordance, drop)
    for accuracy in (0.5, 0.9, 0.98)
    for discordance in (0.02, 0.06, 0.2)
    for drop in (0.0, 0.02, 0.05)
    if drop <= discordance and (discordance - drop) / 2 <= 1 - accuracy + 1e-12
]


def cells(accuracy: float, discordance: float, drop: float) -> list[float]:
    """Probabilities of both right, only the variant, only the baseline, none."""
    lost, won = (discordance + drop) / 2, (discordance - drop) / 2
    return [accuracy - lost, max(won, 0.0), lost, max(1 - accuracy - won, 0.0)]


def question_of(counts: Floats, statistic: Statistic) -> PairedQuestion:
    """Unclustered 0/1 items with these counts."""
    both, won, lost, _ = counts.astype(int)
    variant, baseline = np.zeros(counts.sum()), np.zeros(counts.sum())
    variant[: both + won] = 1.0
    baseline[:both] = 1.0
    baseline[both + won : both + won + lost] = 1.0
    return PairedQuestion.of(
        PairedItems(baseline, variant, np.ones(len(variant))), statistic, higher_is_better=True
    )


def coverage(num_items: int, cell: tuple[float, float, float], statistic: Statistic) -> float:
    accuracy, _, drop = cell
    truth = -drop if statistic is Statistic.DIFFERENCE else (accuracy - drop) / accuracy
    random = np.random.default_rng([RANDOM_SEED, num_items])
    drawn = random.multinomial(num_items, cells(*cell), size=NUM_DATA_SETS)
    offered = covered = 0
    if statistic is Statistic.DIFFERENCE:  # both right and none are the same to it
        drawn[:, 0], drawn[:, 3] = drawn[:, 0] + drawn[:, 3], 0
    for counts, number in zip(*np.unique(drawn, axis=0, return_counts=True), strict=True):
        found = question_of(counts, statistic).p_values(truth)
        if found is not None:
            offered += number
            covered += number * (min(found) > 0.025)
    assert offered > 0.9 * NUM_DATA_SETS, "an interval that is hardly ever offered proves nothing"
    return float(covered / offered)


@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("num_items", [10, 30, 1_000])
@pytest.mark.parametrize("cell", QUICK)
def test_intervals_of_right_and_wrong_cover_the_truth(
    num_items: int, cell: tuple[float, float, float], statistic: Statistic
) -> None:
    assert coverage(num_items, cell, statistic) >= LEAST_COVERAGE


@pytest.mark.long
@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("num_items", [20, 100, 300, 3_000])
@pytest.mark.parametrize("cell", GRID)
def test_intervals_of_right_and_wrong_cover_the_truth_over_the_grid(
    num_items: int, cell: tuple[float, float, float], statistic: Statistic
) -> None:
    assert coverage(num_items, cell, statistic) >= LEAST_COVERAGE


@pytest.mark.parametrize("parameter", [RATIO, DIFFERENCE], ids=["ratio", "difference"])
def test_an_exact_interval_holds_what_its_test_accepts(parameter: object) -> None:
    """Bisection finds the ends of the set of accepted values: nothing accepted lies beyond them."""
    assert parameter in (RATIO, DIFFERENCE)
    which = RATIO if parameter is RATIO else DIFFERENCE
    for both, won, lost in ((8, 0, 0), (20, 1, 4), (9, 3, 3), (60, 0, 6)):
        table = PairedTable(both, won, lost, both + won + lost)
        low, high = exact_interval(which, table, 0.95)
        for value in (low - 0.02, low - 0.002, high + 0.002, high + 0.02):
            assert min(exact_p_values(which, table, value)) <= 0.025
        for value in (low + 0.002, high - 0.002):
            assert min(exact_p_values(which, table, value)) > 0.025


def drawn_clusters(
    sizes: np.ndarray, cell: tuple[float, float, float], shared: float, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of baseline and variant [number, num_items].

    An item goes as its source goes with probability `shared`, else on its own.
    """
    random = np.random.default_rng([RANDOM_SEED, len(sizes), int(100 * shared)])
    shape = (number, int(sizes.sum()))
    alone = random.choice(4, size=shape, p=cells(*cell))
    source = random.choice(4, size=(number, len(sizes)), p=cells(*cell))
    kind = np.where(random.random(shape) < shared, np.repeat(source, sizes, axis=1), alone)
    return np.isin(kind, (0, 2)).astype(float), np.isin(kind, (0, 1)).astype(float)


def clustered_coverage(
    num_clusters: int, cell: tuple[float, float, float], shared: float, number: int
) -> float:
    sizes = np.random.default_rng(5).geometric(0.2, num_clusters)
    cluster = np.repeat(np.arange(num_clusters), sizes)
    ratio = (cell[0] - cell[2]) / cell[0]
    ones = np.ones(len(cluster))

    @functools.cache
    def exact(only_top: float, only_bottom: float, trials: float, total: float) -> bool:
        table = PairedTable(trials - only_top - only_bottom, only_top, only_bottom, total)
        return min(exact_p_values(RATIO, table, ratio)) > 0.025

    covered = refused = 0
    for base, variant in zip(*drawn_clusters(sizes, cell, shared, number), strict=True):
        items = PairedItems(base, variant, ones, cluster)
        question = PairedQuestion.of(items, Statistic.RECOVERY, higher_is_better=True)
        if question.method is Method.EXACT:
            table = question.as_if_independent()
            trials = table.both + table.discordant
            covered += exact(table.only_top, table.only_bottom, trials, table.total)
        else:
            found = question.p_values(ratio)
            refused += found is None  # a model with no right answer has no recovery
            covered += found is not None and min(found) > 0.025
    assert refused <= 0.1 * number
    return covered / (number - refused)


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize(
    ("num_clusters", "cell"), [(30, (0.98, 0.02, 0.02)), (100, (0.5, 0.2, 0.05))]
)
def test_intervals_of_clusters_cover_the_truth(
    num_clusters: int, cell: tuple[float, float, float], shared: float
) -> None:
    """1,000 data sets, so a bound of their own noise (two standard errors) below."""
    assert clustered_coverage(num_clusters, cell, shared, 1_000) >= LEAST_COVERAGE - 0.014


@pytest.mark.long
@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_clusters", [10, 30, 100, 300])
@pytest.mark.parametrize(
    "cell", [(0.5, 0.06, 0.0), (0.5, 0.25, 0.05), (0.8, 0.06, 0.05), (0.98, 0.02, 0.02)]
)
def test_intervals_of_clusters_cover_the_truth_over_the_grid(
    num_clusters: int, cell: tuple[float, float, float], shared: float
) -> None:
    assert clustered_coverage(num_clusters, cell, shared, NUM_DATA_SETS) >= LEAST_COVERAGE
