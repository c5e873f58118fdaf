"""'No worse than 1%', number by number: a claim that needs evidence of its own.

    of_items(items, margin=0.01, higher_is_better=True)             # recovery above 0.99
    of_repeats([100, 101, 99], [99, 100, 98], 0.05, higher_is_better=True)

A share of the baseline's number, with one-sided tests (non-inferiority; `tasks.analyze.equivalence`
for items, Student's t of logarithms for repeats). `judged` corrects both families of p-values.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from flows.compare.outcome import ROUNDING, Correction, corrected
from tasks.analyze.equivalence import Equivalence, tost
from tasks.analyze.paired import PairedItems
from tasks.analyze.repeats import compare_repeats
from tasks.spec import Frozen

ALPHA = 0.05  # of each one-sided claim, after the correction


class NoWorse(Frozen):
    """Whether a number is worse by less than a margin."""

    margin: float = Field(description="Share of the baseline's number that does not matter.")
    p_no_worse: float | None = Field(description="Of 'worse by the margin or more'; one-sided.")
    p_worse: float | None = Field(description="Of 'worse by the margin at most'; one-sided.")
    p_corrected: float | None = Field(
        default=None, description="Of the claim; if none is made, of 'no worse'."
    )
    verdict: Equivalence = Field(
        default=Equivalence.UNDECIDED, description="What is shown after the correction."
    )
    reason: str | None = Field(default=None, description="Why there was no test, where none is.")


def untested(margin: float, reason: str) -> NoWorse:
    """Of a number that no test is made for."""
    return NoWorse(margin=margin, p_no_worse=None, p_worse=None, reason=reason)


def of_items(items: PairedItems, margin: float, higher_is_better: bool) -> NoWorse:
    """Of a score; without p-values where no test holds."""
    found = tost(items, margin, higher_is_better=higher_is_better, alpha=ALPHA)
    return NoWorse(margin=margin, p_no_worse=found.p_no_worse, p_worse=found.p_worse)


def of_repeats(
    baseline: Sequence[float], other: Sequence[float], margin: float, higher_is_better: bool
) -> NoWorse:
    """Of a speed or latency, by its repeats, the sides one after the other."""
    good, bad = (other, baseline) if higher_is_better else (baseline, other)
    # 'Worse by the margin' as 'both alike': of the side that ought to be lower, less by the margin.
    order = "A" * len(bad) + "B" * len(good)
    found = compare_repeats([value * (1 - margin) for value in bad], good, order=order)
    if found.p_value is None:
        return NoWorse(margin=margin, p_no_worse=None, p_worse=None)
    half = found.p_value / 2
    p_no_worse = half if found.estimate > 1 else 1 - half
    return NoWorse(margin=margin, p_no_worse=p_no_worse, p_worse=1 - p_no_worse)


def judged(found: Sequence[NoWorse | None], correction: Correction) -> list[NoWorse | None]:
    """With the claims that are left when all are looked at."""
    no_worse = corrected([one.p_no_worse if one else None for one in found], correction)
    worse = corrected([one.p_worse if one else None for one in found], correction)
    return [
        one and _claimed(one, *p_values)
        for one, *p_values in zip(found, no_worse, worse, strict=True)
    ]


def _claimed(found: NoWorse, p_no_worse: float | None, p_worse: float | None) -> NoWorse:
    verdict, p_value = Equivalence.UNDECIDED, p_no_worse
    if p_no_worse is not None and p_no_worse <= ALPHA + ROUNDING:
        verdict = Equivalence.NO_WORSE
    elif p_worse is not None and p_worse <= ALPHA + ROUNDING:
        verdict, p_value = Equivalence.WORSE, p_worse
    return found.model_copy(update={"verdict": verdict, "p_corrected": p_value})
