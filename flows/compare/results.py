"""The rows of one step in two runs: pairs of items, repeats, or plain numbers.

    rows = rows_of(pair, {"evaluate": samples}, {"evaluate": samples})

Evaluations are paired item by item and clustered by source, averages over tasks by the items of
their tasks, benchmarks compared by repeats of the same load; losses and sizes have no spread of
their own, and stand as numbers with their difference.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flows.compare import margins
from flows.compare.comparability import caveats, obstacle
from flows.compare.numbers import numbers_in
from flows.compare.outcome import Outcome
from flows.compare.rows import CONFIDENCE, Measure, Row, not_comparable, plain
from flows.compare.subjects import Pair
from flows.compare.surroundings import Difference, differences
from tasks.analyze.comparison import Statistic
from tasks.analyze.group_recovery import group_recovery
from tasks.analyze.paired import compare_paired
from tasks.analyze.repeats import RepeatComparison, compare_repeats
from tasks.analyze.rows import Samples, pair
from tasks.benchmark.spec import BenchmarkResult, LoadPoint
from tasks.evaluate.spec import EvaluateResult, Score

QUANTITIES = {
    "tokens/s": ("output_tokens_per_s", None),
    "TTFT p50 ms": ("ttft_ms", "p50"),
    "TTFT p99 ms": ("ttft_ms", "p99"),
    "ITL p50 ms": ("itl_ms", "p50"),
    "ITL p99 ms": ("itl_ms", "p99"),
}
LOWER_IS_BETTER = ("size_bytes", "loss")
DERIVED = ("analyze", "gate")  # what they say is computed from the other steps' numbers
NO_SAMPLES = "a score without items: no interval"
UNTESTED = "not tested for an average over tasks"
DAMAGED = "its items cannot be read"  # what is wrong with them, the run's problems say


class Asked(NamedTuple):
    """What is to be known of each number."""

    confidence: float = CONFIDENCE
    margin: float | None = None
    """Share of the baseline's number; None asks for no claim of 'no worse'."""


DIFFERENCES = Asked()


def rows_of(
    pair: Pair,
    baseline: Mapping[str, Samples],
    other: Mapping[str, Samples],
    asked: Asked = DIFFERENCES,
) -> list[Row]:
    """Every number of a step; the same answer of one computation has nothing to compare."""
    found = differences([pair])
    before, after = pair.baseline.result, pair.other.result
    if isinstance(before, EvaluateResult) and isinstance(after, EvaluateResult):
        rows = _scores(
            pair,
            (before, after),
            (baseline.get(pair.baseline.name), other.get(pair.other.name)),
            asked,
        )
    elif isinstance(before, BenchmarkResult) and isinstance(after, BenchmarkResult):
        rows = _speeds(pair, before, after, asked)
    elif pair.baseline.kind in DERIVED:
        return []
    else:
        rows = _plain_numbers(pair)
    return [_in_its_place(row, pair, found) for row in rows]


def _in_its_place(row: Row, pair: Pair, found: Sequence[Difference]) -> Row:
    """With the obstacles and caveats of its kind."""
    if pair.is_one_result:
        update = {"outcome": Outcome.EQUAL, "reason": "one computation answered both runs"}
        nothing = dict.fromkeys(("paired", "repeats", "no_worse"))
        return row.model_copy(update={**update, **nothing})
    reason = obstacle(row.measure, row.what, pair, found)
    if reason is not None:
        return not_comparable(row, reason)
    if row.outcome in (Outcome.NOT_COMPARABLE, Outcome.EQUAL):
        return row
    return row.model_copy(update={"caveats": caveats(row.measure, pair, found)})


# -- evaluations -----------------------------------------------------------------------


def _scores(
    step: Pair,
    results: tuple[EvaluateResult, EvaluateResult],
    samples: tuple[Samples | None, Samples | None],
    asked: Asked,
) -> Iterator[Row]:
    before, after = ({(s.task, s.label): s for s in result.scores} for result in results)
    for key in dict.fromkeys((*before, *after)):
        yield _score(step.name, before.get(key), after.get(key), samples, asked)


def _score(
    step: str,
    before: Score | None,
    after: Score | None,
    samples: tuple[Samples | None, Samples | None],
    asked: Asked,
) -> Row:
    score = before or after
    assert score is not None
    key = (score.task, score.label)
    row = Row(
        step=step,
        measure=Measure.SCORE,
        what=f"{score.task}/{score.label}",
        baseline=before.value if before else None,
        other=after.value if after else None,
        higher_is_better=score.higher_is_better,
    )
    if before is None or after is None:
        return plain(row)
    if samples[0] is None or samples[1] is None:
        return not_comparable(row, DAMAGED)
    if before.parts and after.parts:
        average = group_recovery(before, after, samples[0], samples[1], asked.confidence)
        update: dict[str, Any] = {"paired": average, "reason": average.reason}
        if asked.margin is not None:
            update["no_worse"] = margins.untested(asked.margin, UNTESTED)
        return row.model_copy(update=update)
    if key not in samples[0] or key not in samples[1]:
        if before.num_items != after.num_items:
            return not_comparable(row, f"{before.num_items} items against {after.num_items}")
        return plain(row, NO_SAMPLES)
    try:
        items = pair(samples[0][key], samples[1][key])
    except ValueError as error:
        return not_comparable(row, str(error))
    compared = compare_paired(items, Statistic.DIFFERENCE, confidence=asked.confidence)
    update = {"paired": compared, "reason": compared.reason}
    if asked.margin is not None and score.higher_is_better is not None:
        update["no_worse"] = margins.of_items(items, asked.margin, score.higher_is_better)
    return row.model_copy(update=update)


# -- benchmarks ------------------------------------------------------------------------


def _speeds(
    pair: Pair, before: BenchmarkResult, after: BenchmarkResult, asked: Asked
) -> Iterator[Row]:
    loads = dict.fromkeys(point.load for point in (*before.points, *after.points))
    for load in loads:
        points = [[p for p in result.points if p.load == load] for result in (before, after)]
        for words, (field, percentile) in QUANTITIES.items():
            values = [[_value(point, field, percentile) for point in side] for side in points]
            yield _speed(f"{load}, {words}", pair.name, field, values, asked)


def _value(point: LoadPoint, field: str, percentile: str | None) -> float | None:
    found = getattr(point, field)
    if found is None:
        return None
    return float(found if percentile is None else getattr(found, percentile))


def _speed(
    what: str,
    step: str,
    field: str,
    values: Sequence[Sequence[float | None]],
    asked: Asked,
) -> Row:
    known = [[value for value in side if value is not None] for side in values]
    medians = [statistics.median(side) if side else None for side in known]
    row = Row(
        step=step,
        measure=Measure.SPEED,
        what=what,
        baseline=medians[0],
        other=medians[1],
        higher_is_better=field == "output_tokens_per_s",
    )
    if not known[0] or not known[1]:
        return plain(row)
    if any(len(some) < len(all_) for some, all_ in zip(known, values, strict=True)):
        return not_comparable(row, "not measured in every repeat")
    try:
        compared = compare_one_after_the_other(known[0], known[1], asked.confidence)
    except ValueError as error:
        return not_comparable(row, str(error))
    update: dict[str, Any] = {"repeats": compared, "reason": compared.reason}
    if asked.margin is not None:
        is_higher_better = bool(row.higher_is_better)
        update["no_worse"] = margins.of_repeats(known[0], known[1], asked.margin, is_higher_better)
    return row.model_copy(update=update)


def compare_one_after_the_other(
    before: Sequence[float], after: Sequence[float], confidence: float
) -> RepeatComparison:
    """Repeats of two benchmarks, which never take turns: where values drift, nothing is told.

    Which of the two came first makes no difference to the drift within each.
    """
    order = "A" * len(before) + "B" * len(after)
    return compare_repeats(before, after, order=order, confidence=confidence)


# -- everything else -------------------------------------------------------------------


def _plain_numbers(pair: Pair) -> Iterator[Row]:
    before, after = (dict(numbers_in(s.record.result)) for s in (pair.baseline, pair.other))
    for name in dict.fromkeys((*before, *after)):
        is_lower_better = name.endswith(LOWER_IS_BETTER)
        yield plain(
            Row(
                step=pair.name,
                measure=_measure(name),
                what=name,
                baseline=before.get(name),
                other=after.get(name),
                higher_is_better=False if is_lower_better else None,
            )
        )


def _measure(name: str) -> Measure:
    if "loss" in name or name == "agreement_fraction":
        return Measure.LOSS
    return Measure.SIZE if "size" in name else Measure.OTHER
