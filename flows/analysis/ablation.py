"""What one change did: runs whose files differ in exactly one value, and what came out of each.

    for row in ablations(runs):
        row.parameter, row.before, row.after, row.outcomes

The difference of a score is paired by item with its 95% interval wherever both runs were asked the
same, of an average over tasks the ratio by the items of its tasks; where they were not, both
numbers stand there and no difference is claimed. Runs of equal files count once, the newest that
has results. p-values are corrected by Holm over the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from flows.compare.outcome import Outcome, corrected, judge
from flows.experiment.lineage import modifications
from tasks.analyze.comparison import PairedComparison, Statistic
from tasks.analyze.group_recovery import group_recovery
from tasks.analyze.paired import compare_paired
from tasks.analyze.rows import Samples, pair, samples_at
from tasks.evaluate.spec import EvaluateResult, Score
from tasks.train import TrainResult

WORDS = {
    Outcome.BETTER: "they differ, it is better",
    Outcome.WORSE: "they differ, it is worse",
    Outcome.DIFFERENT: "they differ",
    Outcome.UNDECIDED: "no difference shown",
}
CONFIDENCE = 0.95
MAX_NAMED = 3  # pairs of runs that a fact names


@dataclass(frozen=True)
class Effect:
    """One number of both runs: a score of a step, or a loss."""

    name: str
    before: float
    after: float
    comparison: PairedComparison | None = None  # after - before, of an average after / before
    higher_is_better: bool | None = None
    p_holm: float | None = None
    verdict: Outcome = Outcome.UNDECIDED


@dataclass(frozen=True)
class Ablation:
    """Two runs that differ in one value of their files, and what else differs for it."""

    before_run: str
    after_run: str
    parameter: str
    before: JsonValue
    after: JsonValue
    outcomes: tuple[Effect, ...]
    num_equal: int  # outcomes that are the same, as the results are


def distinct(runs: Sequence[RunEvidence]) -> list[RunEvidence]:
    """One run for each content of a file, the newest with results; runs oldest first."""
    found: dict[str, RunEvidence] = {}
    for run in runs:
        if run.resolved is not None and run.results:
            found.pop(_key(run.resolved), None)
            found[_key(run.resolved)] = run
    return list(found.values())


def _key(resolved: Mapping[str, object]) -> str:
    compared = {name: value for name, value in resolved.items() if name != "experiment"}
    return json.dumps(compared, sort_keys=True)


def ablations(runs: Sequence[RunEvidence]) -> list[Ablation]:
    """Every pair of distinct runs that differ in one field, the older first."""
    kept = distinct(runs)
    found = [
        row
        for place, before in enumerate(kept)
        for after in kept[place + 1 :]
        if (row := _compare(before, after)) is not None
    ]
    return _corrected(found)


def ablations_of(subject: RunEvidence, others: Sequence[RunEvidence]) -> list[Ablation]:
    """One run against every other that differs from it in one field; the others stand before."""
    if subject.resolved is None or not subject.results:
        return []
    kept = [run for run in distinct(others) if run.report.id != subject.report.id]
    found = [row for run in kept if (row := _compare(run, subject)) is not None]
    return _corrected(found)


def _compare(before: RunEvidence, after: RunEvidence) -> Ablation | None:
    changes = modifications(before.resolved or {}, after.resolved or {})
    if len(changes) != 1:
        return None
    outcomes: list[Effect] = []
    num_equal = 0
    for name in before.results:
        one, other = before.results[name], after.results.get(name)
        if other is None or type(one) is not type(other):
            continue
        if isinstance(one, EvaluateResult) and isinstance(other, EvaluateResult):
            if one == other:
                num_equal += len(one.scores)
            else:
                outcomes += _scores(name, one, other, before, after)
        elif isinstance(one, TrainResult) and isinstance(other, TrainResult):
            pair_of = (one.final_validation_loss, other.final_validation_loss)
            if None not in pair_of and one.model.digest != other.model.digest:
                outcomes.append(Effect(f"{name}, held-out loss", *map(float, pair_of)))  # type: ignore[arg-type]
    change = changes[0]
    return Ablation(
        before.report.id,
        after.report.id,
        change.parameter,
        change.before,
        change.after,
        tuple(outcomes),
        num_equal,
    )


def _scores(
    name: str, one: EvaluateResult, other: EvaluateResult, before: RunEvidence, after: RunEvidence
) -> Iterator[Effect]:
    samples = (_samples(one, before), _samples(other, after))
    others = {(score.task, score.label): score for score in other.scores}
    for score in one.scores:
        key = (score.task, score.label)
        if key in others:
            yield Effect(
                f"{name}, {score.task}/{score.label}",
                score.value,
                others[key].value,
                _paired(score, others[key], *samples),
                score.higher_is_better,
            )


def _samples(result: EvaluateResult, run: RunEvidence) -> Samples:
    path = run.path(result.samples)
    if path is None:
        return {}
    return samples_at([path])


def _paired(score: Score, other: Score, before: Samples, after: Samples) -> PairedComparison | None:
    """None where the two cannot be paired."""
    if score.parts:
        return group_recovery(score, other, before, after, CONFIDENCE)
    key = (score.task, score.label)
    if key not in before or key not in after:
        return None
    try:
        items = pair(before[key], after[key])
    except ValueError:  # they were not asked the same
        return None
    higher = score.higher_is_better is not False
    return compare_paired(
        items, Statistic.DIFFERENCE, higher_is_better=higher, confidence=CONFIDENCE
    )


def _corrected(rows: Sequence[Ablation]) -> list[Ablation]:
    """With p-values and outcomes, corrected over all rows."""
    tests = [outcome.comparison for row in rows for outcome in row.outcomes]
    p_values = iter(corrected([test.p_value if test else None for test in tests]))
    return [
        replace(row, outcomes=tuple(_judged(one, next(p_values)) for one in row.outcomes))
        for row in rows
    ]


def _judged(found: Effect, p_holm: float | None) -> Effect:
    if found.comparison is None:
        return found
    verdict = judge(found.comparison, p_holm, found.higher_is_better)
    return replace(found, p_holm=p_holm, verdict=verdict)


def ablation_facts(rows: Sequence[Ablation]) -> Iterator[Fact]:
    """One fact for each outcome that changed, and one for each field that changed none."""
    for row in rows:
        change = f"{row.parameter}: {json.dumps(row.before)} → {json.dumps(row.after)}"
        for outcome in row.outcomes:
            yield _fact(change, outcome, f"runs {row.before_run} and {row.after_run}")
    idle = [row for row in rows if not row.outcomes and row.num_equal]
    for parameter in dict.fromkeys(row.parameter for row in idle):
        those = [row for row in idle if row.parameter == parameter]
        num_equal = sum(row.num_equal for row in those)
        yield Fact(
            kind=FactKind.ABLATION,
            claim=f"{parameter} alone differs in {plural(len(those), 'pair')} of runs; none of "
            f"their {plural(num_equal, 'score')} does, as they are the same results",
            numbers={"num_pairs": len(those), "num_scores": num_equal},
            source=", ".join(f"{row.before_run} and {row.after_run}" for row in those[:MAX_NAMED]),
        )


def _fact(change: str, outcome: Effect, source: str) -> Fact:
    numbers: dict[str, int | float] = {"before": outcome.before, "after": outcome.after}
    found = outcome.comparison
    words = f"{digits(outcome.before)} → {digits(outcome.after)}"
    if found is None or found.estimate is None or found.low is None or found.high is None:
        why = found.reason if found is not None and found.reason else "it is not paired by item"
        words += f"; no interval, so no difference is claimed ({why})"
    else:
        is_ratio = found.statistic is Statistic.RECOVERY
        numbers |= {
            "ratio" if is_ratio else "difference": found.estimate,
            "low": found.low,
            "high": found.high,
            "confidence": found.confidence,
            "num_items": found.num_items,
        }
        words += (
            f", {'times' if is_ratio else 'by'} {digits(found.estimate)} "
            f"({found.confidence:.0%} interval {digits(found.low)} to {digits(found.high)}, "
            f"{plural(found.num_items, 'item')}): {WORDS[outcome.verdict]}"
        )
    if outcome.p_holm is not None:
        numbers["p_holm"] = outcome.p_holm
        words += f", p {outcome.p_holm:#.2g} after Holm"
    return Fact(
        kind=FactKind.ABLATION,
        claim=f"{change} changed {outcome.name}: {words}",
        numbers=numbers,
        source=source,
    )
