"""One line of a comparison: a number of two runs, and what may be said of its difference.

    Row(step="evaluate", measure=Measure.SCORE, what="gsm8k/exact_match",
        baseline=0.40, other=0.36, paired=compare_paired(…))

`judged` corrects the p-values of all rows as one family, and only then names an outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from flows.compare import margins
from flows.compare.margins import NoWorse
from flows.compare.outcome import Correction, Outcome, corrected, judge
from flows.compare.sensitivity import Sensitivity, sensitivity_of
from tasks.analyze.comparison import PairedComparison
from tasks.analyze.repeats import RepeatComparison
from tasks.spec import Frozen

CONFIDENCE = 0.95


class Measure(StrEnum):
    """What a number is one of; it decides what makes two of them comparable."""

    SCORE = "score"
    SPEED = "speed"
    LOSS = "loss"
    SIZE = "size"
    OTHER = "other"


class Row(Frozen):
    """A number in the baseline and in another run."""

    step: str = Field(description="Step, or `a / b` where the runs name it otherwise.")
    measure: Measure = Field(description="What the number is one of.")
    what: str = Field(description="`task/metric`, a load with its quantity, or a result's field.")
    baseline: float | None = Field(description="In the baseline; absent where not measured.")
    other: float | None = Field(description="In the other run; absent where not measured.")
    higher_is_better: bool | None = Field(default=None, description="Direction, where known.")
    paired: PairedComparison | None = Field(
        default=None,
        description="Difference other - baseline, item by item; of an average, other / baseline.",
    )
    repeats: RepeatComparison | None = Field(
        default=None, description="Ratio other / baseline, by repeats."
    )
    outcome: Outcome = Field(default=Outcome.UNDECIDED, description="What may be said.")
    p_corrected: float | None = Field(default=None, description="Over all tests of the comparison.")
    no_worse: NoWorse | None = Field(
        default=None, description="Whether it is worse by less than the margin that was asked for."
    )
    sensitivity: Sensitivity | None = Field(
        default=None, description="What could have been seen, where nothing was decided."
    )
    reason: str | None = Field(
        default=None, description="Why it is not comparable, or why there is no interval."
    )
    caveats: tuple[str, ...] = Field(
        default=(), description="What else differs and may have moved the number."
    )

    @property
    def difference(self) -> float | None:
        """other - baseline."""
        if self.baseline is None or self.other is None:
            return None
        return self.other - self.baseline

    @property
    def p_value(self) -> float | None:
        """Of 'both are alike', uncorrected; none where they are not compared."""
        if self.outcome in (Outcome.NOT_COMPARABLE, Outcome.EQUAL):
            return None
        test = self.paired or self.repeats
        return test.p_value if test else None


def not_comparable(row: Row, reason: str) -> Row:
    """The numbers stand there, and nothing is said of their difference."""
    return row.model_copy(
        update={
            "outcome": Outcome.NOT_COMPARABLE,
            "reason": reason,
            "paired": None,
            "repeats": None,
            "no_worse": None,
        }
    )


def plain(row: Row, reason: str | None = None) -> Row:
    """A number without chance, or of whose chance nothing is known: equal, or different."""
    if row.baseline is None or row.other is None:
        where = "the other run" if row.other is None else "the baseline"
        return not_comparable(row, f"not measured in {where}")
    outcome = Outcome.EQUAL if row.baseline == row.other else Outcome.DIFFERENT
    return row.model_copy(update={"outcome": outcome, "reason": reason})


def judged(rows: Sequence[Row], correction: Correction = Correction.HOLM) -> tuple[Row, ...]:
    """Outcomes of all rows that were tested, corrected over all of them."""
    p_values = corrected([row.p_value for row in rows], correction)
    claims = margins.judged([row.no_worse for row in rows], correction)
    return tuple(map(_judged, rows, p_values, claims))


def _judged(row: Row, p_value: float | None, no_worse: NoWorse | None) -> Row:
    test = row.paired or row.repeats
    if test is None or row.outcome in (Outcome.NOT_COMPARABLE, Outcome.EQUAL):
        return row
    outcome = judge(test, p_value, row.higher_is_better)
    is_open = outcome is Outcome.UNDECIDED
    return row.model_copy(
        update={
            "p_corrected": p_value,
            "outcome": outcome,
            "no_worse": no_worse,
            "sensitivity": sensitivity_of(test) if is_open else None,
        }
    )
