"""How fast models were served against their baseline, and whether service levels were kept.

    facts = list(serving_facts(evidence))

At every load that both were measured under, repeat by repeat: the repeat is the unit, so with fewer
than three a side there is no interval, and no difference is claimed; nor is one where values drift,
as benchmarks do not take turns. p-values are corrected by Holm over all loads and variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from flows.compare.outcome import Outcome, corrected, judge
from flows.compare.results import compare_one_after_the_other
from tasks.analyze import AnalyzeResult, AnalyzeSpec
from tasks.analyze.repeats import RepeatComparison
from tasks.analyze.rows import by_load
from tasks.analyze.table import percent
from tasks.benchmark.spec import BenchmarkResult, LoadPoint

WORDS = {
    Outcome.BETTER: "it is faster",
    Outcome.WORSE: "it is slower",
    Outcome.UNDECIDED: "no difference shown, which is not to say that there is none",
}


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
        (name, load, compare_one_after_the_other(base[load], speeds, spec.confidence), speeds)
        for name, variant in spec.variants.items()
        if name != spec.baseline
        for load, speeds in tokens_by_load(variant.load_points).items()
        if load in base
    ]
    p_values = corrected([compared.p_value for _, _, compared, _ in found])
    for (name, load, compared, speeds), p_holm in zip(found, p_values, strict=True):
        outcome = judge(compared, p_holm)
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
            f"{plural(compared.num_repeats, 'repeat')}): {words_of(compared, outcome)}{tail}",
            numbers={key: value for key, value in numbers.items() if value is not None},
            source=f"load points of step {step}",
            needs_attention=outcome is Outcome.WORSE,
        )


def tokens_by_load(points: Sequence[LoadPoint]) -> dict[str, list[float]]:
    """Output tokens per second of every repeat, by load."""
    return {
        load: [point.output_tokens_per_s for point in repeats]
        for load, repeats in by_load(points).items()
    }


def words_of(found: RepeatComparison, outcome: Outcome) -> str:
    """What the ratio of two speeds bears out."""
    ratio = f"{found.estimate:.1%}"
    if found.low is None or found.high is None:
        why = f" ({found.reason})" if found.reason else ""
        return f"{ratio}; no interval, so no difference is claimed{why}"
    interval = f"{percent(found.confidence)} interval {found.low:.1%} to {found.high:.1%}"
    return f"{ratio} ({interval}): {WORDS[outcome]}"


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
