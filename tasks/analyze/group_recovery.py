"""Recovery of an average over tasks, paired item by item within each task.

    group_recoveries(baseline.scores, variant.scores, samples["baseline"], samples["variant"], 0.95)

is for whoever compares two models: a `Recovery` for every average that both have, `leaderboard/bbh`
as well as lm-eval's own `mmlu`. The gate asks `group_recovery` for one.

strata.py has the method. None is offered below `MIN_TASK_UNITS` units in any task or `MIN_UNITS` in
all, nor where a task counts as 0 because it is below guessing: the average is not linear there.
Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.analyze.comparison import Method, PairedComparison, Statistic
from tasks.analyze.paired import UNBOUNDED
from tasks.analyze.sign_flips import p_value_of_signs
from tasks.analyze.spec import Recovery
from tasks.analyze.strata import Metric, StratifiedRatio, Stratum
from tasks.evaluate.spec import Score, ScorePart

if TYPE_CHECKING:
    from tasks.analyze.rows import Sample, Samples  # which takes its rows from here

MIN_UNITS = 300  # in all tasks together; below, the normal approximation is not trusted
MIN_TASK_UNITS = 30


def group_recoveries(
    baseline_scores: Iterable[Score],
    variant_scores: Iterable[Score],
    baseline: Samples,
    variant: Samples,
    confidence: float,
) -> tuple[Recovery, ...]:
    """Recovery of every average of the baseline's that says what it is made of."""
    other = {(score.task, score.label): score for score in variant_scores}
    return tuple(
        Recovery(
            task=score.task,
            metric=score.label,
            comparison=group_recovery(
                score, other.get((score.task, score.label)), baseline, variant, confidence
            ),
        )
        for score in baseline_scores
        if score.parts and score.higher_is_better
    )


def group_recovery(
    baseline_score: Score,
    variant_score: Score | None,
    baseline: Samples,
    variant: Samples,
    confidence: float,
) -> PairedComparison:
    """Recovery of one average, from the samples of its tasks; or the reason why there is none."""
    label = f"{baseline_score.task}/{baseline_score.label}"
    try:
        if variant_score is None or not variant_score.parts:
            raise ValueError(f"the variant has no {label}")
        ratio = _ratio(baseline_score, variant_score, baseline, variant)
    except ValueError as error:
        return _comparison(confidence, reason=str(error))
    num_items = sum(len(baseline[key]) for key in _keys(baseline_score.parts))
    num_units = sum(stratum.num_units for stratum in ratio.strata)
    smallest = min(stratum.num_units for stratum in ratio.strata)
    interval, reason = None, None
    if num_units < MIN_UNITS or smallest < MIN_TASK_UNITS:
        reason = (
            f"{num_units} independent units in all and {smallest} in the smallest task are too "
            f"few for an interval ({MIN_UNITS} and {MIN_TASK_UNITS} needed)"
        )
    else:
        interval = ratio.interval(confidence)
        reason = None if interval else UNBOUNDED
    sets = [stratum.items for stratum in ratio.strata]
    is_independent = len(set(sets)) == len(sets)
    signs = np.concatenate([stratum.differences for stratum in ratio.strata])
    return _comparison(
        confidence,
        estimate=ratio.estimate,
        interval=interval,
        num_items=num_items,
        num_units=num_units,
        reason=reason,
        standard_error=ratio.standard_error,
        p_value=p_value_of_signs(signs) if is_independent else None,
    )


def _keys(parts: Iterable[ScorePart]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((part.task, part.metric) for part in parts))


def _ratio(
    baseline_score: Score, variant_score: Score, baseline: Samples, variant: Samples
) -> StratifiedRatio:
    """ValueError where there is no ratio of the two averages, in words."""
    if not (baseline_score.higher_is_better and variant_score.higher_is_better):
        raise ValueError("an average has a recovery only where higher is better")
    clamped = [p.task for p in (*baseline_score.parts, *variant_score.parts) if p.is_clamped]
    if clamped:
        raise ValueError(f"{clamped[0]} is below guessing and counts as 0: it has no recovery")
    if baseline_score.parts != variant_score.parts:
        raise ValueError("the two averages are not made of the same tasks in the same way")
    if baseline_score.value <= 0:
        raise ValueError("a score at or below zero has no recovery")
    by_task: dict[str, list[ScorePart]] = defaultdict(list)
    for part in baseline_score.parts:
        by_task[part.task].append(part)
    return StratifiedRatio(
        variant_score.value,
        baseline_score.value,
        tuple(_stratum(parts, baseline, variant) for parts in by_task.values()),
    )


def _stratum(parts: Sequence[ScorePart], baseline: Samples, variant: Samples) -> Stratum:
    sides = []
    for part in parts:
        key = (part.task, part.metric)
        for whose, samples in (("baseline", baseline), ("variant", variant)):
            if not samples.get(key):
                raise ValueError(f"the {whose} has no items of {part.task}/{part.metric}")
        sides.append(_aligned(part, baseline[key], variant[key]))
    units = sorted({unit for side in sides for unit in side})
    metrics = []
    for part, side in zip(parts, sides, strict=True):
        sums = np.array([side.get(unit, (0.0, 0.0, 0.0)) for unit in units])
        slope = part.factor / (1 - part.random_score)
        metrics.append(Metric(sums[:, 0], sums[:, 1], sums[:, 2], slope))
    return Stratum.of(parts[0].items, metrics)


def _aligned(
    part: ScorePart, baseline: Mapping[str, Sample], variant: Mapping[str, Sample]
) -> dict[str, tuple[float, float, float]]:
    """Baseline, variant and denominator by unit; ValueError where they were not asked the same."""
    label = f"{part.task}/{part.metric}"
    if baseline.keys() != variant.keys():
        only = len(baseline.keys() ^ variant.keys())
        raise ValueError(f"{only} items of {label} were answered by one of the two only")
    found: dict[str, tuple[float, float, float]] = {}
    for item, one in baseline.items():
        other = variant[item]
        if one.denominator != other.denominator:
            raise ValueError(f"the same items of {label} have different denominators")
        if not all(0 <= side.numerator <= side.denominator for side in (one, other)):
            raise ValueError(f"{label} is no share of right answers")
        unit = item if one.cluster is None else f"source {one.cluster}"
        before = found.get(unit, (0.0, 0.0, 0.0))
        found[unit] = (
            before[0] + one.numerator,
            before[1] + other.numerator,
            before[2] + one.denominator,
        )
    return found


def _comparison(
    confidence: float,
    *,
    estimate: float | None = None,
    interval: tuple[float, float] | None = None,
    num_items: int = 0,
    num_units: int = 0,
    reason: str | None = None,
    standard_error: float | None = None,
    p_value: float | None = None,
) -> PairedComparison:
    low, high = interval or (None, None)
    return PairedComparison(
        statistic=Statistic.RECOVERY,
        estimate=estimate,
        low=low,
        high=None if high is None or math.isinf(high) else high,
        confidence=confidence,
        method=Method.STRATIFIED if interval else Method.NONE,
        num_items=num_items,
        num_units=num_units,
        reason=reason,
        standard_error=standard_error,
        p_value=p_value,
    )
