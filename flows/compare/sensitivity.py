"""What an undecided comparison could have seen, and how much more would decide it.

    found = sensitivity_of(comparison)       # of items: the smallest drop, and items to add
    print(found.words)

With 80% power at the comparison's own level; a correction over many tests asks for more.
"""

from __future__ import annotations

from statistics import NormalDist

from pydantic import Field

from flows.compare.outcome import none_of
from tasks.analyze.comparison import Method, PairedComparison, Statistic
from tasks.analyze.power import (
    more_items_needed,
    more_repeats_needed,
    smallest_detectable_drop,
)
from tasks.analyze.repeats import RepeatComparison
from tasks.spec import Frozen


class Sensitivity(Frozen):
    """How much a comparison can tell; absent is what its data do not say."""

    smallest_drop: float | None = Field(
        description="Of a score, absolute: seen with 80% power by as many items as these."
    )
    num_more: int | None = Field(
        description="Items, or repeats a side, to add until a difference such as this one shows."
    )
    unit: str = Field(description="items or repeats")

    @property
    def words(self) -> str:
        """Empty where nothing is known."""
        parts = []
        if self.smallest_drop is not None:
            parts.append(f"it would have seen a drop of {self.smallest_drop:.2g} (80% power)")
        if self.num_more:
            a_side = " a side" if self.unit == "repeats" else ""
            parts.append(
                f"about {self.num_more:,} more {self.unit}{a_side} would show a difference "
                "such as this one"
            )
        return "; ".join(parts)


def sensitivity_of(found: PairedComparison | RepeatComparison) -> Sensitivity:
    """Of a difference of scores, or of a ratio of repeats."""
    if isinstance(found, RepeatComparison):
        more = more_repeats_needed(found, threshold=none_of(found))
        return Sensitivity(smallest_drop=None, num_more=more or None, unit="repeats")
    more = more_items_needed(found, threshold=none_of(found))
    return Sensitivity(smallest_drop=_smallest_drop(found), num_more=more or None, unit="items")


def _smallest_drop(found: PairedComparison) -> float | None:
    units, error, estimate = found.num_units, found.standard_error, found.estimate
    if found.low is None or not error or estimate is None:
        return None
    if found.statistic is Statistic.RECOVERY:  # a share, and of an average over tasks
        return None
    if found.high is None:
        return None
    alpha, reach = 1 - found.confidence, max(estimate - found.low, found.high - estimate)
    if found.method in (Method.EXACT, Method.SCORE) and units == found.num_items:
        # Items are 0 or 1: the square of a difference is 1 where the two differ.
        discordance = min(1.0, error**2 * (units - 1) + estimate**2)
        drop = smallest_detectable_drop(units, discordance=discordance, alpha=alpha)
        return None if drop is None else max(drop, reach)
    # The interval may reach farther than its standard error, for losses that were not seen.
    normal = NormalDist()
    return reach * (1 + normal.inv_cdf(0.8) / normal.inv_cdf(1 - alpha / 2))
