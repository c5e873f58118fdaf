"""What a paired comparison says: plain fields, read by every spec and page without loading numpy.

    PairedComparison(statistic=Statistic.RECOVERY, estimate=0.99, low=0.98, high=1.0, …)

tasks/analyze/paired.py computes it and says which method holds where.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tasks.spec import Frozen


class Statistic(StrEnum):
    """What is compared."""

    RECOVERY = "recovery"  # variant / baseline, inverted where lower is better
    DIFFERENCE = "difference"  # variant - baseline


class Method(StrEnum):
    """How the interval was made."""

    EXACT = "exact"
    SCORE = "score"
    STRATIFIED = "stratified"  # of an average over tasks: tasks/analyze/group_recovery.py
    UNSEEN = "unseen"
    NONE = "none"


def too_few(what: str, number: int, least: int) -> str:
    """Why there is no interval, and how many more it takes to have one."""
    more = f"needs at least {least - number} more"
    return f"{number} {what} are too few for an interval ({least} needed): {more}"


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
    standard_error: float | None = Field(
        default=None,
        description="Of the estimate, linearised; over sources where items share them.",
    )
    p_value: float | None = Field(
        default=None, description="Of 'both score alike': two-sided, by sign flips of the units."
    )
