"""'No worse than 1%': a claim that needs evidence of its own, not the absence of a difference.

    found = tost(items, margin=0.01)          # recovery above 0.99, at alpha = 0.05
    found.verdict is Equivalence.NO_WORSE         # or EQUIVALENT, WORSE, UNDECIDED

Two one-sided tests (Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15:657), each the
test that the paired interval inverts: what is claimed at alpha is what the interval at 1 - 2 alpha
shows.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tasks.analyze.comparison import PairedComparison, Statistic
from tasks.analyze.paired import PairedItems, PairedQuestion, compare_paired
from tasks.spec import Frozen


class Equivalence(StrEnum):
    """What the data show about the margin."""

    EQUIVALENT = "equivalent"  # neither worse nor better by the margin
    NO_WORSE = "no worse"  # and perhaps better by more than the margin
    WORSE = "worse"  # by more than the margin
    UNDECIDED = "undecided"


class EquivalenceTest(Frozen):
    """Whether a variant is worse than its baseline by less than a margin; p-values one-sided."""

    comparison: PairedComparison = Field(description="With its interval at 1 - 2 alpha.")
    margin: float = Field(description="The largest loss that does not matter.")
    alpha: float = Field(description="Error of each one-sided test.")
    p_no_worse: float | None = Field(description="Of 'it is worse by the margin or more'.")
    p_equivalent: float | None = Field(description="Of 'it differs by the margin or more': TOST.")
    p_worse: float | None = Field(description="Of 'it is worse by the margin at most'.")
    verdict: Equivalence = Field(description="What is shown; undecided where no test holds.")

    @property
    def is_no_worse(self) -> bool:
        """Non-inferiority."""
        return self.verdict in (Equivalence.EQUIVALENT, Equivalence.NO_WORSE)


def tost(
    items: PairedItems,
    margin: float,
    statistic: Statistic = Statistic.RECOVERY,
    *,
    higher_is_better: bool = True,
    alpha: float = 0.05,
) -> EquivalenceTest:
    """Recovery above 1 - margin (and below 1 + margin), or a difference within the margin.

    Raises ValueError unless the margin is above zero (below 1 for a recovery) and alpha is between
    0 and a half.
    """
    largest = 1.0 if statistic is Statistic.RECOVERY else float("inf")
    if not 0 < margin < largest:
        raise ValueError(f"the margin is {margin}; it must be above 0 and below {largest}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it must be between 0 and 0.5")
    middle = 1.0 if statistic is Statistic.RECOVERY else 0.0
    question = PairedQuestion.of(items, statistic, higher_is_better)
    above, below = question.p_values(middle - margin), question.p_values(middle + margin)
    # A recovery is turned round where lower is better; a difference is not.
    turned = statistic is Statistic.DIFFERENCE and not higher_is_better
    p_no_worse = p_equivalent = p_worse = None
    verdict = Equivalence.UNDECIDED
    if above is not None and below is not None:
        p_no_worse, p_worse = (below[1], below[0]) if turned else above
        p_equivalent = max(above[0], below[1])
        if p_equivalent <= alpha:
            verdict = Equivalence.EQUIVALENT
        elif p_no_worse <= alpha:
            verdict = Equivalence.NO_WORSE
        elif p_worse <= alpha:
            verdict = Equivalence.WORSE
    return EquivalenceTest(
        comparison=compare_paired(
            items, statistic, higher_is_better=higher_is_better, confidence=1 - 2 * alpha
        ),
        margin=margin,
        alpha=alpha,
        p_no_worse=p_no_worse,
        p_equivalent=p_equivalent,
        p_worse=p_worse,
        verdict=verdict,
    )
