"""How good and how fast a published model is, row by row: each score with its interval.

    rows = list(scores_of(chosen, steps, store))
    rows = list(serving_of(benchmark))

Beside a score stands the base model's, where it was asked the same, and what was kept of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from flows.experiment.measured import MeasuredStep, read_items
from flows.publish.choose import Chosen, is_of
from tasks.analyze.group_recovery import group_recovery
from tasks.analyze.rows import Samples, by_load, median_latency, recoveries
from tasks.analyze.spec import Recovery
from tasks.analyze.table import latency_words, recovery_words
from tasks.benchmark.spec import BenchmarkResult
from tasks.evaluate.spec import EvaluateResult, Score
from tasks.gate.measures import score as measured
from tasks.publish import ScoreRow, ServingRow
from tasks.store import Record, Store

CONFIDENCE = 0.95


def scores_of(
    chosen: Chosen, steps: Mapping[str, MeasuredStep], store: Store
) -> Iterator[ScoreRow]:
    """Of every evaluation of the model."""
    for step in steps.values():
        found = step.result
        if not is_of(step.record, "evaluate", chosen.model.digest):
            continue
        assert isinstance(found, EvaluateResult)
        base = _asked_the_same(step.record, chosen.base_digest, steps)
        samples = read_items(store, found)
        baseline = read_items(store, base) if base is not None else {}
        known = {(one.task, one.label): one for one in base.scores} if base is not None else {}
        for score in found.scores:
            key = (score.task, score.label)
            interval = measured(score, samples.get(key), CONFIDENCE)
            value = f"{score.value:.4g}"
            if interval.has_interval:
                value += f" ({interval.low:.4g} to {interval.high:.4g})"
            kept = _recovery(score, known.get(key), samples, baseline)
            yield ScoreRow(
                metric=f"{score.task}/{score.label}",
                score=value,
                baseline=f"{known[key].value:.4g}" if key in known else "",
                recovery=_words(kept) if kept is not None else "",
                num_items=score.num_items,
            )


def _asked_the_same(
    record: Record, digest: str, steps: Mapping[str, MeasuredStep]
) -> EvaluateResult | None:
    """The evaluation of another model by an otherwise equal spec."""
    for step in steps.values():
        is_same = is_of(step.record, "evaluate", digest) and _asked(step.record) == _asked(record)
        if is_same and isinstance(step.result, EvaluateResult):
            return step.result
    return None


def _asked(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.spec.items() if key != "model"}


def _recovery(
    score: Score, base: Score | None, samples: Samples, baseline: Samples
) -> Recovery | None:
    """Of an average, by the items of its tasks; `base` is the base model's score."""
    key = (score.task, score.label)
    if base is not None and base.parts and base.higher_is_better:
        compared = group_recovery(base, score, baseline, samples, CONFIDENCE)
        return Recovery(task=score.task, metric=score.label, comparison=compared)
    if key not in samples or key not in baseline or score.higher_is_better is None:
        return None
    pair = ({key: baseline[key]}, {key: samples[key]})
    (found,) = recoveries({key: score.higher_is_better}, *pair, CONFIDENCE)
    return found


def _words(kept: Recovery) -> str:
    return recovery_words(kept) or kept.comparison.reason or ""


def serving_of(result: BenchmarkResult) -> Iterator[ServingRow]:
    """Medians over repeats, load by load; what was not measured in every repeat is absent."""
    for load, repeats in by_load(result.points).items():
        speed = statistics.median(point.output_tokens_per_s for point in repeats)
        yield ServingRow(
            load=load,
            tokens_per_s=f"{speed:.4g}",
            ttft_ms=latency_words(median_latency(repeats, "ttft_ms")),
            itl_ms=latency_words(median_latency(repeats, "itl_ms")),
            num_repeats=len(repeats),
        )
