"""How fast models were served against their baseline, and whether service levels were kept.

    facts = list(serving_facts(evidence))

At every load that both were measured under, repeat by repeat: the repeat is the unit, so with fewer
than three a side there is no interval, and no difference is claimed. p-values are corrected by Holm
over all loads and variants of an analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from tasks.analyze import AnalyzeResult, AnalyzeSpec
from tasks.analyze.multiplicity import holm
from tasks.analyze.repeats import RepeatComparison, compare_repeats
from tasks.analyze.table import percent
from tasks.benchmark.spec import BenchmarkResult, LoadPoint


def serving_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Output tokens/s of every analysis's variants; service levels of every benchmark."""
    for name, _ in evidence.of_type(AnalyzeResult):
        spec = AnalyzeSpec.model_validate(evidence.records[name].spec)
        yield from _speeds(name, spec)
    for name, benchmark in evidence.of_type(BenchmarkResult):
        yield from _service_level(name, benchmark)


def _speeds(step: str, spec: AnalyzeSpec) -> Iterator[Fact]:
    base = tokens_by_load(spec.variants[spec.baseline].load_points)
    found = [
        (name, load, compare_repeats(base[load], speeds, confidence=spec.confidence), speeds)
        for name, variant in spec.variants.items()
        if name != spec.baseline
        for load, speeds in tokens_by_load(variant.load_points).items()
        if load in base
    ]
    tested = [one.p_value for _, _, one, _ in found if one.p_value is not None]
    corrected = iter(holm(tested))
    for name, load, compared, speeds in found:
        p_holm = next(corrected) if compared.p_value is not None else None
        numbers: dict[str, int | float | None] = {
            "ratio": compared.estimate,
            "low": compared.low,
            "high": compared.high,
            "confidence": compared.confidence if compared.low is not None else None,
            "tokens_per_s": median(speeds),
            "base_tokens_per_s": median(base[load]),
            "num_repeats": compared.num_repeats,
            "p_holm": p_holm,
        }
        tail = f", p {p_holm:#.2g} after Holm" if p_holm is not None else ""
        yield Fact(
            kind=FactKind.BASELINE,
            claim=f"{name} served {digits(median(speeds))} output tokens/s under {load}, "
            f"{spec.baseline} {digits(median(base[load]))} (medians of "
            f"{plural(compared.num_repeats, 'repeat')}): {words_of(compared)}{tail}",
            numbers={key: value for key, value in numbers.items() if value is not None},
            source=f"load points of step {step}",
            needs_attention=compared.high is not None and compared.high < 1,
        )


def tokens_by_load(points: Sequence[LoadPoint]) -> dict[str, list[float]]:
    """Output tokens per second of every repeat, by load."""
    found: dict[str, list[float]] = {}
    for point in points:
        found.setdefault(point.load, []).append(point.output_tokens_per_s)
    return found


def words_of(found: RepeatComparison) -> str:
    """What the interval of a speed's ratio bears out."""
    ratio = f"{found.estimate:.1%}"
    if found.low is None or found.high is None:
        return f"{ratio}; no interval, so no difference is claimed"
    interval = f"{percent(found.confidence)} interval {found.low:.1%} to {found.high:.1%}"
    verdict = "no difference shown, which is not to say that there is none"
    if found.high < 1:
        verdict = "it is slower"
    elif found.low > 1:
        verdict = "it is faster"
    return f"{ratio} ({interval}): {verdict}"


def _service_level(name: str, result: BenchmarkResult) -> Iterator[Fact]:
    loads: dict[str, list[bool]] = {}
    for point in result.points:
        if point.slo_met is not None:
            loads.setdefault(point.load, []).append(point.slo_met)
    for load, met in loads.items():
        yield Fact(
            kind=FactKind.BASELINE,
            claim=f"{name} kept its service level under {load} in {sum(met)} of "
            f"{plural(len(met), 'repeat')}",
            numbers={"num_met": sum(met), "num_repeats": len(met)},
            source=f"points of step {name}",
            needs_attention=not all(met),
        )
