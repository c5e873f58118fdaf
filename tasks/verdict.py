"""What a gate says: apart from the gate, so that whoever shows a run loads no numpy for it.

    GateResult(passed=False, verdict=Verdict.INCONCLUSIVE, stops=True, summary=..., criteria={...})

A verdict speaks of the whole interval of a number; what has no number is missing, never passed.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tasks.spec import Frozen, Result


class Verdict(StrEnum):
    """What a gate says of a criterion, the worst first."""

    FAILED = "failed"  # the whole interval lies on the wrong side of the threshold
    MISSING = "missing"  # there is no number
    INCONCLUSIVE = "inconclusive"  # the threshold lies within the interval, or there is none
    PASSED = "passed"  # the whole interval lies on the right side of the threshold


class Limit(StrEnum):
    """On which side of its threshold a number has to be."""

    ABOVE = "above"
    AT_LEAST = "at least"
    AT_MOST = "at most"


class CriterionVerdict(Frozen):
    """One criterion, judged. Absent is what could not be measured."""

    kind: str = Field(description="Kind of the criterion.")
    verdict: Verdict = Field(description="Whether it was passed.")
    number: float | None = Field(description="What was measured.")
    low: float | None = Field(description="Lower end of its interval; the number if exact.")
    high: float | None = Field(description="Upper end of its interval; the number if exact.")
    limit: Limit = Field(description="On which side of the threshold it has to be.")
    threshold: float = Field(description="What it was held against.")
    num_units: int = Field(ge=0, description="Items, sources of items or repeats behind it.")
    num_more_needed: int | None = Field(
        default=None, ge=1, description="About as many more would settle it."
    )
    words: str = Field(description="All of this in a sentence.")


class GateResult(Result):
    """Whether the work may go on, and why."""

    passed: bool = Field(description="Whether every criterion was, or was let pass.")
    verdict: Verdict = Field(description="The worst of its criteria's.")
    stops: bool = Field(description="Whether the steps after it are skipped.")
    summary: str = Field(description="The verdict, with the words of what was not passed.")
    criteria: dict[str, CriterionVerdict] = Field(min_length=1, description="By name.")
