"""Variants against their baseline, in words that say no more than the interval does.

    words_of(comparison)      # "kept 97.20% (95% interval 96.51% to 97.88%): it lost some"

An interval below 100% is a loss, above it a gain; one that holds 100% shows no difference, which is
not that there is none. Without an interval nothing is claimed. p-values are corrected by Holm over
all comparisons of the same analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from tasks.analyze import AnalyzeResult
from tasks.analyze.comparison import PairedComparison
from tasks.analyze.spec import Recovery, VariantRow
from tasks.analyze.table import percent

MAX_PLACES = 6


def comparison_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Recovery by metric, and size, of every analysis's variants."""
    for name, result in evidence.of_type(AnalyzeResult):
        source = f"rows of step {name}"
        corrected = _corrected(result.rows)
        for row in result.rows:
            for recovery in row.recoveries:
                p_holm = corrected.get((row.name, recovery.label))
                yield _recovery(row.name, recovery, result.baseline, source, p_holm)
            if row.name != result.baseline:
                yield from _size(row, result, source)


def words_of(found: PairedComparison) -> str:
    """What the interval of a recovery bears out."""
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
    if found.high < 1:
        return f"{kept} ({interval}): it lost some"
    if found.low > 1:
        return f"{kept} ({interval}): it is better"
    return f"{kept} ({interval}): no difference shown, which is not to say that there is none"


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
        claim=f"{variant} against {baseline}, {recovery.label}{units}: {words_of(found)}{tested}",
        numbers=numbers,
        source=source,
        needs_attention=found.high is not None and found.high < 1,
    )


def _corrected(rows: tuple[VariantRow, ...]) -> Mapping[tuple[str, str], float]:
    from tasks.analyze.multiplicity import holm

    found = {
        (row.name, recovery.label): recovery.comparison.p_value
        for row in rows
        for recovery in row.recoveries
        if recovery.comparison.p_value is not None
    }
    return dict(zip(found, holm([p for p in found.values() if p is not None]), strict=True))


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
