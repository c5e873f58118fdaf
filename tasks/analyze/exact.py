"""Exact tests of 0/1 pairs, for few items or few that differ: never more errors than promised.

    exact_interval(RATIO, PairedTable(both=25, only_top=0, only_bottom=1, total=30), 0.95)

The tail of the score statistic is summed over every table that could have been, at the discordance
that makes it largest: Chan & Zhang (1999), Biometrics 55:1202, each side at half the error. The
discordance is searched where its own exact interval lies, and the chance that it lies elsewhere is
added to the p-value: Berger & Boos (1994), J. American Statistical Association 89:1012.
"""

from __future__ import annotations

import math

import numpy as np

from tasks.analyze.intervals import Floats, PairedTable, Parameter, invert

ELSEWHERE = 5e-4  # probability that the discordance lies outside its interval
NUM_DISCORDANCES = 32  # searched for the worst
NEGLIGIBLE = 1e-7  # probability of tables that are not looked at, on each side
STEPS = 24  # of bisection: an interval's end to 1e-7 of its distance


def exact_interval(
    parameter: Parameter, table: PairedTable, confidence: float
) -> tuple[float, float]:
    """Every value that neither exact one-sided test rejects; conservative, for any table."""
    return invert(
        lambda value: exact_p_values(parameter, table, value),
        parameter,
        table,
        confidence,
        STEPS,
    )


def exact_p_values(parameter: Parameter, table: PairedTable, value: float) -> tuple[float, float]:
    """One-sided p-values of 'it is at most `value`' and of 'it is at least `value`'.

    Counts may be fractions (effective items): the tables that could have been are whole, and those
    at least as extreme as the one that was are summed.
    """
    from scipy import special

    trials = math.floor(parameter.trials(table) + 1e-9)
    discordances = _discordances(parameter, min(table.discordant, trials), trials, value)
    p_top, p_bottom = (np.clip(p, 0.0, 1.0) for p in parameter.cells(value, discordances))
    tops, bottoms = (_possible(trials, p) for p in (p_top, p_bottom))
    top, bottom = (grid.ravel() for grid in np.meshgrid(tops, bottoms, indexing="ij"))
    possible = top + bottom <= trials
    top, bottom = top[possible], bottom[possible]
    rest = trials - top - bottom
    ways = (
        special.gammaln(trials + 1)
        - special.gammaln(top + 1)
        - special.gammaln(bottom + 1)
        - special.gammaln(rest + 1)
    )
    probability = np.exp(
        ways
        + special.xlogy(top, p_top[:, None])
        + special.xlogy(bottom, p_bottom[:, None])
        + special.xlogy(rest, np.clip(1 - p_top - p_bottom, 0.0, 1.0)[:, None])
    )  # [num_discordances, num_tables]
    found = parameter.statistic(top, bottom, trials, value)
    observed = parameter.statistic(
        np.array([table.only_top]), np.array([table.only_bottom]), parameter.trials(table), value
    )[0]
    tolerance = 1e-9 * (1 + abs(observed)) if math.isfinite(observed) else 0.0
    upper = (probability @ (found >= observed - tolerance)).max()
    lower = (probability @ (found <= observed + tolerance)).max()
    extra = ELSEWHERE + 4 * NEGLIGIBLE
    return min(1.0, float(upper) + extra), min(1.0, float(lower) + extra)


def _discordances(parameter: Parameter, seen: float, trials: float, value: float) -> Floats:
    """The probabilities of a discordant trial that are searched [num_discordances]."""
    from scipy import stats

    low = stats.beta.ppf(ELSEWHERE / 2, seen, trials - seen + 1) if seen > 0 else 0.0
    high = stats.beta.ppf(1 - ELSEWHERE / 2, seen + 1, trials - seen) if seen < trials else 1.0
    least = parameter.least_discordance(value)
    low, high = max(low, least), max(high, least)
    angles = np.linspace(
        math.asin(math.sqrt(low)), math.asin(math.sqrt(min(high, 1.0))), NUM_DISCORDANCES
    )
    return np.asarray(np.sin(angles) ** 2, dtype=np.float64)


def _possible(trials: int, probabilities: Floats) -> Floats:
    from scipy import stats

    first = stats.binom.ppf(NEGLIGIBLE, trials, probabilities.min())
    last = stats.binom.ppf(1 - NEGLIGIBLE, trials, probabilities.max())
    return np.arange(max(first, 0.0), last + 1, dtype=np.float64)
