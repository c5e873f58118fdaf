"""From a number with an interval to a verdict: pure, and suspicious of whatever is missing.

judge(Measured(0.996, 0.995, 0.997), Limit.ABOVE, 0.99)       # passed: the lower end is above
judge(Measured(0.996, 0.980, 1.012), Limit.ABOVE, 0.99)       # inconclusive
judge(Measured(math.nan, None, None), Limit.ABOVE, 0.99)      # missing, like no number at all

An exact number has itself as both ends of its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.analyze.power import more_needed
from tasks.gate.spec import Inconclusive
from tasks.verdict import CriterionVerdict, GateResult, Limit, Verdict

PERCENT_KINDS = ("recovery", "analyzed_recovery", "size_ratio")


@dataclass(frozen=True)
class Measured:
    """A number, its interval, and what they rest on; `reason` says why one of them is absent.

    `num_more` says how many more items would settle a threshold, where better is known than that
    the width of an interval falls with the root of the number of its units.
    """

    number: float | None
    low: float | None = None
    high: float | None = None
    num_units: int = 0
    unit: str = "items"
    reason: str = ""
    num_more: Callable[[float], int | None] | None = None

    @classmethod
    def missing(cls, reason: str) -> Measured:
        return cls(None, reason=reason)

    @property
    def has_number(self) -> bool:
        return self.number is not None and math.isfinite(self.number)

    @property
    def has_interval(self) -> bool:
        ends = (self.low, self.high)
        return self.has_number and all(end is not None and math.isfinite(end) for end in ends)


def judge(found: Measured, limit: Limit, threshold: float) -> Verdict:
    """Which side of the threshold the whole interval lies on; the side of the limit passes."""
    if not found.has_number:
        return Verdict.MISSING
    if not found.has_interval:
        return Verdict.INCONCLUSIVE
    low, high = found.low, found.high
    assert low is not None
    assert high is not None
    match limit:
        case Limit.ABOVE:
            is_passed, is_failed = low > threshold, high < threshold
        case Limit.AT_LEAST:
            is_passed, is_failed = low >= threshold, high < threshold
        case Limit.AT_MOST:
            is_passed, is_failed = high <= threshold, low > threshold
    if is_passed:
        return Verdict.PASSED
    return Verdict.FAILED if is_failed else Verdict.INCONCLUSIVE


def num_more_needed(found: Measured, threshold: float, confidence: float) -> int | None:
    """About how many more units would move the interval off the threshold, if the number holds.

    None where it is off already, where there is no interval to start from, or where the number is
    the threshold itself.
    """
    if not found.has_interval or found.num_units == 0:
        return None
    if found.num_more is not None:
        return found.num_more(threshold) or None
    interval = found.low, found.high
    return more_needed(found.num_units, found.number, interval, threshold, confidence) or None


def judged(
    kind: str,
    what: str,
    found: Measured,
    limit: Limit,
    threshold: float,
    confidence: float,
) -> CriterionVerdict:
    """The verdict with everything that it rests on."""
    verdict = judge(found, limit, threshold)
    is_open = verdict is Verdict.INCONCLUSIVE
    more = num_more_needed(found, threshold, confidence) if is_open else None
    return CriterionVerdict(
        kind=kind,
        verdict=verdict,
        number=found.number if found.has_number else None,
        low=found.low if found.has_interval else None,
        high=found.high if found.has_interval else None,
        limit=limit,
        threshold=threshold,
        num_units=found.num_units,
        num_more_needed=more,
        words=_words(kind, what, found, verdict, f"{limit} {_shown(kind, threshold)}", more),
    )


def _words(
    kind: str, what: str, found: Measured, verdict: Verdict, wanted: str, more: int | None
) -> str:
    if verdict is Verdict.MISSING:
        return f"{what} is missing: {found.reason or 'it is no number'}"
    number = _shown(kind, found.number)
    if verdict is Verdict.INCONCLUSIVE and not found.has_interval:
        why = found.reason or "there is no interval"
        return f"{what} is {number}, and may be {wanted} or not: {why}"
    is_exact = found.low == found.high
    interval = f" ({_shown(kind, found.low)} to {_shown(kind, found.high)})"
    told = f"{what} is {number}{'' if is_exact else interval}"
    match verdict:
        case Verdict.PASSED:
            return f"{told}, {wanted}"
        case Verdict.FAILED:
            return f"{told}, not {wanted}"
        case _:
            needs = f"; needs about {more} more {found.unit}" if more else ""
            return f"{told}, {wanted} or not{needs}"


def _shown(kind: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.4g}%" if kind in PERCENT_KINDS else f"{value:.4g}"


def gate_result(
    criteria: Mapping[str, CriterionVerdict], inconclusive: Inconclusive, stop: bool
) -> GateResult:
    """The gate as a whole: passed if all criteria are, or are let pass."""
    order = list(Verdict)
    verdict = min((found.verdict for found in criteria.values()), key=order.index)
    is_let_pass = verdict is Verdict.INCONCLUSIVE and inconclusive is Inconclusive.PASS
    passed = verdict is Verdict.PASSED or is_let_pass
    open_ = [
        f"{name}: {found.words}"
        for name, found in criteria.items()
        if found.verdict is not Verdict.PASSED
    ]
    words = [f"{verdict}, let pass" if is_let_pass else str(verdict), *open_]
    return GateResult(
        passed=passed,
        verdict=verdict,
        stops=stop and not passed,
        summary="; ".join(words),
        criteria=dict(criteria),
    )
