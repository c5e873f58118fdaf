"""From samples, scores and load points to the rows of a comparison: plain numbers.

samples = {name: samples_at([path]) for name, path in paths.items()}
rows = compare_variants("baseline", variants, samples, confidence=0.95)
front = pareto_front({"w8a8": (size_bytes, -recovery), ...})
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from tasks.analyze.comparison import Method, PairedComparison, Statistic
from tasks.analyze.group_recovery import group_recoveries
from tasks.analyze.paired import PairedItems, compare_paired
from tasks.analyze.spec import Latency, Recovery, ServingSummary, Variant, VariantRow
from tasks.benchmark.spec import LoadPoint
from tasks.spec import Frozen

MetricKey = tuple[str, str]  # task, metric label


class SampleLine(Frozen):
    """One line of samples.jsonl, as the evaluate step writes them."""

    task: str = Field(description="Name of the task.")
    metric: str = Field(description="Name of the metric, with its filter.")
    item: str = Field(description="Digest of the item's content.")
    cluster: str | None = Field(default=None, description="The source that the item is from.")
    numerator: float = Field(description="The item's share of the score.")
    denominator: float = Field(gt=0, description="The item's weight.")


class Sample(NamedTuple):
    """One item's share of a score."""

    numerator: float
    denominator: float
    cluster: str | None


Samples = Mapping[MetricKey, Mapping[str, Sample]]


def parse_samples(lines: Iterable[str]) -> Iterator[SampleLine]:
    """The lines of one samples.jsonl; ValueError names the first that is none, and says why."""
    for number, line in enumerate(lines, start=1):
        try:
            yield SampleLine.model_validate_json(line)
        except ValidationError as error:
            wrong = "; ".join(
                ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"])))
                for one in error.errors()
            )
            raise ValueError(f"line {number} of the samples is no sample: {wrong}") from error


def read_samples(lines: Iterable[SampleLine]) -> dict[MetricKey, dict[str, Sample]]:
    """A variant's samples by metric and item; ValueError where an item stands twice."""
    found: dict[MetricKey, dict[str, Sample]] = {}
    for line in lines:
        items = found.setdefault((line.task, line.metric), {})
        if line.item in items:
            raise ValueError(f"{line.task}/{line.metric}: item {line.item} stands twice")
        items[line.item] = Sample(line.numerator, line.denominator, line.cluster)
    return found


def samples_at(paths: Iterable[Path]) -> dict[MetricKey, dict[str, Sample]]:
    """What the samples.jsonl of one model's evaluations hold together; ValueError as the above."""

    def lines() -> Iterator[SampleLine]:
        for path in paths:
            with path.open(encoding="utf-8") as file:
                yield from parse_samples(file)

    return read_samples(lines())


def pair(baseline: Mapping[str, Sample], variant: Mapping[str, Sample]) -> PairedItems:
    """The items that both answered, in the order of their names.

    Raises ValueError where the two differ in items or denominators: then they were not asked the
    same, and a comparison of what is left would be one of another question.
    """
    if baseline.keys() != variant.keys():
        only = len(baseline.keys() ^ variant.keys())
        raise ValueError(f"{only} items were answered by one of the two only")
    items = sorted(baseline)
    if any(baseline[item].denominator != variant[item].denominator for item in items):
        raise ValueError("the same items have different denominators")
    sources = [baseline[item].cluster for item in items]
    return PairedItems.of(
        [baseline[item].numerator for item in items],
        [variant[item].numerator for item in items],
        [baseline[item].denominator for item in items],
        [source or item for source, item in zip(sources, items, strict=True)]
        if any(sources)
        else None,
    )


def recoveries(
    directions: Mapping[MetricKey, bool], baseline: Samples, variant: Samples, confidence: float
) -> tuple[Recovery, ...]:
    """Recovery of one variant for every metric of the baseline that has a direction.

    A metric that one of the two was measured with and the other was not, or on other items, stands
    there too, with the reason and without a number: it keeps nobody from the other metrics.
    """

    def compare(key: MetricKey) -> PairedComparison:
        if key not in variant:
            return _not_compared("not measured", confidence)
        if key not in baseline:
            return _not_compared("not measured of the baseline", confidence)
        try:
            items = pair(baseline[key], variant[key])
        except ValueError as error:
            return _not_compared(str(error), confidence)
        return compare_paired(
            items,
            Statistic.RECOVERY,
            higher_is_better=directions[key],
            confidence=confidence,
        )

    keys = (baseline.keys() & directions.keys()) | (variant.keys() - baseline.keys())
    return tuple(
        Recovery(task=task, metric=metric, comparison=compare((task, metric)))
        for task, metric in sorted(keys)
    )


def _not_compared(reason: str, confidence: float) -> PairedComparison:
    return PairedComparison(
        statistic=Statistic.RECOVERY,
        estimate=None,
        low=None,
        high=None,
        confidence=confidence,
        method=Method.NONE,
        num_items=0,
        num_units=0,
        reason=reason,
    )


def directions_of(variant: Variant) -> dict[MetricKey, bool]:
    """Whether higher is better, for each metric whose task says so."""
    return {
        (score.task, score.label): score.higher_is_better
        for score in variant.scores
        if score.higher_is_better is not None
    }


class Loads(NamedTuple):
    """The loads that one table reads its numbers at; labels of load points."""

    throughput: str
    latency: str


def choose_loads(points: Iterable[LoadPoint]) -> Loads | None:
    """The load that served the most tokens/s, and the one with the fewest requests at once.

    Requests at once are rate times mean time in the system (Little's law). Chosen from one
    variant's points for all: speeds and latencies are comparable at the same load only.
    """
    repeats = by_load(points)
    if not repeats:
        return None

    def served(load: str) -> float:
        return statistics.median(point.output_tokens_per_s for point in repeats[load])

    def at_once(load: str) -> tuple[bool, float]:
        found = [p.requests_per_s * p.latency_s.mean for p in repeats[load] if p.latency_s]
        return not found, statistics.median(found) if found else served(load)

    return Loads(throughput=max(repeats, key=served), latency=min(repeats, key=at_once))


def summarise_serving(points: Iterable[LoadPoint], loads: Loads | None) -> ServingSummary | None:
    """Medians at the loads chosen; what was not measured there is absent."""
    found = by_load(points)
    if loads is None or found.keys().isdisjoint(loads):
        return None
    heavy, light = found.get(loads.throughput), found.get(loads.latency)
    return ServingSummary(
        output_tokens_per_s=statistics.median(p.output_tokens_per_s for p in heavy)
        if heavy
        else None,
        throughput_load=loads.throughput,
        latency_load=loads.latency,
        num_repeats=min(len(repeats) for repeats in (heavy, light) if repeats),
        ttft_ms=median_latency(light, "ttft_ms") if light else None,
        itl_ms=median_latency(light, "itl_ms") if light else None,
    )


def by_load(points: Iterable[LoadPoint]) -> dict[str, list[LoadPoint]]:
    """The repeats of every load."""
    found: dict[str, list[LoadPoint]] = {}
    for point in points:
        found.setdefault(point.load, []).append(point)
    return found


def median_latency(repeats: Iterable[LoadPoint], field: str) -> Latency | None:
    """Medians over repeats; None where it was not measured in every one."""
    measured = [getattr(point, field) for point in repeats]
    if any(percentiles is None for percentiles in measured):
        return None
    return Latency(
        p50=statistics.median(percentiles.p50 for percentiles in measured),
        p99=statistics.median(percentiles.p99 for percentiles in measured),
    )


def compare_variants(
    baseline: str,
    variants: Mapping[str, Variant],
    samples: Mapping[str, Samples],
    confidence: float,
) -> tuple[VariantRow, ...]:
    """One row a variant, the baseline first.

    Speeds are told at the baseline's loads, or at those of the first variant that was served.
    """
    base = variants[baseline]
    served = (base, *variants.values())
    loads = next(filter(None, (choose_loads(one.load_points) for one in served)), None)
    directions = directions_of(base)
    rows = []
    for name in sorted(variants, key=lambda name: (name != baseline, list(variants).index(name))):
        variant = variants[name]
        sizes = (variant.model_size_bytes, base.model_size_bytes)
        rows.append(
            VariantRow(
                name=name,
                scores=variant.scores,
                model_size_bytes=variant.model_size_bytes,
                size_fraction=sizes[0] / sizes[1] if sizes[0] and sizes[1] else None,
                recoveries=()
                if name == baseline
                else (
                    *recoveries(directions, samples[baseline], samples[name], confidence),
                    *group_recoveries(
                        base.scores, variant.scores, samples[baseline], samples[name], confidence
                    ),
                ),
                serving=summarise_serving(variant.load_points, loads),
            )
        )
    return tuple(rows)


def pareto_front(costs: Mapping[str, tuple[float, ...]]) -> tuple[str, ...]:
    """Names that no other beats; costs are minimised. A beats B: no worse in all, not equal."""

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return tuple(
        name for name, cost in costs.items() if not any(beats(c, cost) for c in costs.values())
    )
