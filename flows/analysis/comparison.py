"""Variants against their baseline, in words that say no more than the interval does.

    words_of(comparison, outcome)   # "kept 97.20% (95% interval 96.51% to 97.88%): it lost some"

What is claimed, `flows.compare.outcome` says, for every page alike: an interval below 100% is a
loss, above it a gain, where p is small enough after Holm over all comparisons of the same analysis.
Else no difference is shown, which is not that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from flows.compare.outcome import Outcome, corrected, judge
from tasks.analyze import AnalyzeResult
from tasks.analyze.comparison import PairedComparison
from tasks.analyze.spec import Recovery, VariantRow
from tasks.analyze.table import percent

MAX_PLACES = 6
WORDS = {
    Outcome.BETTER: "it is better",
    Outcome.WORSE: "it lost some",
    Outcome.UNDECIDED: "no difference shown, which is not to say that there is none",
}


def comparison_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Recovery by metric, and size, of every analysis's variants."""
    for name, result in evidence.of_type(AnalyzeResult):
        source = f"rows of step {name}"
        found = [one.comparison for row in result.rows for one in row.recoveries]
        p_values = iter(corrected([one.p_value for one in found]))
        for row in result.rows:
            for recovery in row.recoveries:
                yield _recovery(row.name, recovery, result.baseline, source, next(p_values))
            if row.name != result.baseline:
                yield from _size(row, result, source)


def words_of(found: PairedComparison, outcome: Outcome) -> str:
    """What a recovery bears out."""
    if found.estimate is None:
        return f"cannot be compared: {found.reason}"
    if found.low is None or found.high is None:
        kept = f"kept {100 * found.estimate:.2f}%"
        return f"{kept}; no interval, so no difference is claimed ({found.reason})"
    places = _places(found.low, found.high)
    estimate, low, high = (
        f"{100 * value:.{places}f}%" for value in (found.estimate, found.low, found.high)
    )
    kept = f"kept {estimate}"
    interval = f"{percent(found.confidence)} interval {low} to {high}"
    return f"{kept} ({interval}): {WORDS[outcome]}"


def _places(low: float, high: float) -> int:
    """Decimals of a percentage by which an end that is not 100% does not look like it."""
    ends = [end for end in (low, high) if end != 1]
    for places in range(2, MAX_PLACES):
        if all(round(100 * end, places) != 100 for end in ends):
            return places
    return MAX_PLACES


def _recovery(
    variant: str, recovery: Recovery, baseline: str, source: str, p_holm: float | None
) -> Fact:
    found = recovery.comparison
    outcome = judge(found, p_holm)
    numbers: dict[str, int | float] = {
        name: value
        for name, value in (
            ("recovery", found.estimate),
            ("low", found.low),
            ("high", found.high),
            ("confidence", found.confidence),
            ("num_items", found.num_items),
            ("num_units", found.num_units),
            ("p_value", found.p_value),
            ("p_holm", p_holm),
        )
        if value is not None
    }
    units = ""
    if found.num_items:
        units = f", {plural(found.num_items, 'item')}"
        if found.num_units != found.num_items:
            units += f" from {plural(found.num_units, 'source')}"
    tested = f", p {p_holm:#.2g} after Holm" if p_holm is not None else ""
    return Fact(
        kind=FactKind.BASELINE,
        claim=f"{variant} against {baseline}, {recovery.label}{units}: "
        f"{words_of(found, outcome)}{tested}",
        numbers=numbers,
        source=source,
        needs_attention=outcome is Outcome.WORSE,
    )


def _size(row: VariantRow, result: AnalyzeResult, source: str) -> Iterator[Fact]:
    base = next(one for one in result.rows if one.name == result.baseline)
    if row.size_fraction is not None and row.model_size_bytes and base.model_size_bytes:
        yield Fact(
            kind=FactKind.BASELINE,
            claim=f"{row.name} has {row.size_fraction:.1%} of the size of {base.name}: "
            f"{digits(row.model_size_bytes)} of {digits(base.model_size_bytes)} bytes",
            numbers={
                "size_fraction": row.size_fraction,
                "size_bytes": row.model_size_bytes,
                "base_size_bytes": base.model_size_bytes,
            },
            source=source,
        )
