"""The gate itself: read what was measured, judge each criterion, say the verdict.

What a criterion needs and does not find makes it `missing`, in words; it never ends the step, as
then nobody would learn of the other criteria.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.analyze.comparison import PairedComparison, Statistic
from tasks.analyze.group_recovery import group_recovery
from tasks.analyze.paired import compare_paired
from tasks.analyze.rows import MetricKey, Samples, pair, samples_at
from tasks.analyze.spec import Evaluation
from tasks.body import BodyContext, run_body
from tasks.errors import nearest
from tasks.evaluate.spec import Score
from tasks.gate import measures
from tasks.gate.judge import Measured, gate_result, judged
from tasks.gate.spec import (
    AnalyzedRecoveryCriterion,
    Criterion,
    GateSpec,
    LatencyCriterion,
    PerplexityCriterion,
    RecoveryCriterion,
    ScoreCriterion,
    SizeCriterion,
    ThroughputCriterion,
    limit_of,
)
from tasks.verdict import CriterionVerdict, GateResult

Read = Callable[[Evaluation], Samples]


def main(spec: GateSpec, context: BodyContext) -> GateResult:
    """Judge every criterion."""

    def read(evaluation: Evaluation) -> Samples:
        return samples_at([context.path(evaluation.samples)])

    criteria = {}
    for name, criterion in spec.criteria.items():
        criteria[name] = verdict_on(criterion, read, spec.confidence)
        print(f"{name}: {criteria[name].verdict}: {criteria[name].words}")
    return gate_result(criteria, spec.inconclusive, spec.stop)


def verdict_on(criterion: Criterion, read: Read, confidence: float) -> CriterionVerdict:
    """One criterion; ValueErrors on the way are reasons why there is no number."""
    try:
        found = _measure(criterion, read, confidence)
    except ValueError as error:
        found = Measured.missing(str(error))
    limit, threshold = limit_of(criterion), criterion.threshold
    return judged(criterion.kind, _what(criterion), found, limit, threshold, confidence)


def _measure(criterion: Criterion, read: Read, confidence: float) -> Measured:
    match criterion:
        case RecoveryCriterion():
            return _recovery(criterion, read, confidence)
        case AnalyzedRecoveryCriterion():
            return measures.paired(_analyzed(criterion, confidence))
        case SizeCriterion():
            return measures.ratio(criterion.size_bytes, criterion.base_size_bytes)
        case LatencyCriterion():
            points = measures.at_load(criterion.points, criterion.load)
            quantity, percentile = criterion.quantity.value, criterion.percentile
            return measures.latency(points, quantity, percentile, confidence)
        case ThroughputCriterion():
            points = measures.at_load(criterion.points, criterion.load)
            rates = [float(getattr(point, criterion.quantity.value)) for point in points]
            return measures.repeats(rates, confidence)
        case PerplexityCriterion():
            difference = _compare(criterion, read, Statistic.DIFFERENCE, confidence)
            return measures.perplexity_ratio(difference)
        case ScoreCriterion():
            score = _score_of(criterion.evaluation, criterion.metric)
            items = read(criterion.evaluation).get(_key(criterion.metric))
            return measures.score(score, items, confidence)


def _recovery(criterion: RecoveryCriterion, read: Read, confidence: float) -> Measured:
    score = _score_of(criterion.baseline, criterion.metric)
    if score.parts:
        other = _scores_of(criterion.variant).get(criterion.metric)
        samples = read(criterion.baseline), read(criterion.variant)
        return measures.paired(group_recovery(score, other, *samples, confidence))
    comparison = _compare(
        criterion, read, Statistic.RECOVERY, confidence, bool(score.higher_is_better)
    )
    return measures.paired(comparison)


def _compare(
    criterion: RecoveryCriterion | PerplexityCriterion,
    read: Read,
    statistic: Statistic,
    confidence: float,
    higher_is_better: bool = True,
) -> PairedComparison:
    sides = []
    for whose, evaluation in (("baseline", criterion.baseline), ("variant", criterion.variant)):
        samples = read(evaluation)
        key = _key(criterion.metric)
        if not samples.get(key):
            hint = _among(criterion.metric, (f"{task}/{metric}" for task, metric in samples))
            raise ValueError(f"the {whose} has no items of {criterion.metric}{hint}")
        sides.append(samples[key])
    return compare_paired(
        pair(*sides), statistic, higher_is_better=higher_is_better, confidence=confidence
    )


def _analyzed(criterion: AnalyzedRecoveryCriterion, confidence: float) -> PairedComparison:
    rows = {row.name: row for row in criterion.rows}
    if criterion.variant not in rows:
        hint = _among(criterion.variant, rows)
        raise ValueError(f"the analysis has no variant '{criterion.variant}'{hint}")
    found = {one.label: one.comparison for one in rows[criterion.variant].recoveries}
    if criterion.metric not in found:
        hint = _among(criterion.metric, found)
        raise ValueError(f"'{criterion.variant}' was not compared by {criterion.metric}{hint}")
    comparison = found[criterion.metric]
    if comparison.confidence < confidence:
        raise ValueError(
            f"the analysis has intervals of {comparison.confidence:.4g} confidence, the gate asks "
            f"for {confidence:.4g}: set the analysis to confidence: {confidence:.4g}"
        )
    return comparison


def _score_of(evaluation: Evaluation, metric: str) -> Score:
    known = _scores_of(evaluation)
    if metric not in known:
        raise ValueError(f"there is no score {metric}{_among(metric, known)}")
    if known[metric].higher_is_better is None:
        raise ValueError(f"{metric} does not say whether higher is better")
    return known[metric]


def _scores_of(evaluation: Evaluation) -> dict[str, Score]:
    return {f"{score.task}/{score.label}": score for score in evaluation.scores}


def _key(metric: str) -> MetricKey:
    task, _, label = metric.rpartition("/")  # a group's task has slashes: leaderboard/bbh
    return task, label


def _among(name: str, names: Iterable[str]) -> str:
    valid = list(names)
    return nearest(name, valid) or (f"; there are {', '.join(valid)}" if valid else "")


def _what(criterion: Criterion) -> str:
    match criterion:
        case RecoveryCriterion() | AnalyzedRecoveryCriterion():
            return f"recovery of {criterion.metric}"
        case SizeCriterion():
            return "size of the weights against the base model's"
        case LatencyCriterion():
            return f"{criterion.percentile} of {criterion.quantity} at load '{criterion.load}'"
        case ThroughputCriterion():
            return f"{criterion.quantity} at load '{criterion.load}'"
        case PerplexityCriterion():
            return f"perplexity per byte by {criterion.metric} against the baseline's"
        case ScoreCriterion():
            return criterion.metric


if __name__ == "__main__":
    run_body(GateSpec, main)
