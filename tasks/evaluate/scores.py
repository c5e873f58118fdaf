"""From lm-eval's answers to scores with standard errors, and to the items that they are made of.

Pure, and ignorant of lm-eval: an aggregation is told by its kind, a sample is a mapping. Standard
errors that lm-eval leaves out are filled in for ratios by linearisation, and for perplexities,
exp(ratio), by the delta method.

    scores, lines = score_tasks(evaluated_tasks, results)
    sum(l["numerator"] for l in lines) / sum(l["denominator"] for l in lines)   # the score again
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

from tasks.evaluate.groups import GroupScore
from tasks.evaluate.parts import leaf_tasks, parts_of_lm_eval_group, parts_of_node
from tasks.evaluate.spec import Score, metric_label

AVERAGE = "average"  # name of a group's metric
ITEM_DIGITS = 32  # hexadecimal digits of an item's digest: 128 bits


class Aggregation(Enum):
    """How lm-eval makes one number out of the values of all items."""

    MEAN = auto()
    BITS_PER_BYTE = auto()  # values are (log-likelihood in nats, bytes)
    WEIGHTED_PERPLEXITY = auto()  # values are (log-likelihood in nats, words or bytes)
    OTHER = auto()


class Ratio(NamedTuple):
    """An item's share of a score that is sum(numerator) / sum(denominator)."""

    numerator: float
    denominator: float


class _Entry(NamedTuple):
    """One metric of one task or group in lm-eval's results."""

    metric: str
    filter: str
    value: float
    stderr: float | None


@dataclass(frozen=True)
class EvaluatedTask:
    """One task after evaluation: its samples as lm-eval logs them, and how its metrics add up."""

    name: str
    samples: Sequence[Mapping[str, Any]]
    aggregations: Mapping[str, Aggregation]  # by metric; lm-eval takes the mean of others

    def aggregation(self, metric: str) -> Aggregation:
        return self.aggregations.get(metric, Aggregation.MEAN)

    def values(self, metric: str, filter_name: str) -> list[tuple[Mapping[str, Any], Any]]:
        """Samples that have the metric, each with its value, in the order of the task."""
        return [
            (sample, sample[metric])
            for sample in self.samples
            if sample["filter"] == filter_name and metric in sample["metrics"]
        ]


def score_tasks(
    tasks: Iterable[EvaluatedTask], results: Mapping[str, Any]
) -> tuple[list[Score], list[dict[str, Any]]]:
    """All scores, tasks first and groups after, and the lines of samples.jsonl.

    `results` is lm-eval's results dictionary. Raises ValueError for a score that is not finite, for
    a task without any, and where items do not add up to lm-eval's own number.
    """
    scores: list[Score] = []
    lines: list[dict[str, Any]] = []
    by_name = {task.name: task for task in tasks}
    for task in by_name.values():
        _refuse_nan(task)
        entries = list(_entries(results["results"][task.name]))
        if not entries:
            raise ValueError(f"task '{task.name}' gave no score")
        for entry in entries:
            score, items = _score_items(task, entry, results)
            scores.append(score)
            lines.extend(items)
    for name, entries_of_group in results["results"].items():
        if name not in by_name:
            num_items = entries_of_group.get("sample_len", 0)
            subtasks = leaf_tasks(name, results.get("group_subtasks", {}))
            for entry in _entries(entries_of_group):
                score = _score(name, entry, num_items, results)
                parts = parts_of_lm_eval_group(score.value, score.label, subtasks, scores)
                scores.append(score.model_copy(update={"parts": parts}))
    return scores, lines


def averages(groups: Sequence[GroupScore], scores: Iterable[Score]) -> list[Score]:
    """The groups that have a value, as scores: `leaderboard/bbh` has one named `average`."""
    known = list(scores)
    return [
        Score(
            task=node.path,
            metric=AVERAGE,
            value=node.value,
            stderr=node.stderr,
            num_items=node.num_items,
            higher_is_better=True,
            parts=parts_of_node(node, groups, known),
        )
        for node in groups
        if node.is_group and node.value is not None and node.num_items is not None
    ]


def _score_items(
    task: EvaluatedTask, entry: _Entry, results: Mapping[str, Any]
) -> tuple[Score, list[dict[str, Any]]]:
    """One metric of a task: the score, and its lines of samples.jsonl, none if it is no ratio."""
    aggregation = task.aggregation(entry.metric)
    values = task.values(entry.metric, entry.filter)
    ratios = _ratios(aggregation, [value for _, value in values], entry.value)
    if ratios is not None and entry.stderr is None:
        entry = entry._replace(stderr=_standard_error(aggregation, ratios, entry.value))
    score = _score(task.name, entry, len(values), results)
    if ratios is None or aggregation is Aggregation.WEIGHTED_PERPLEXITY:
        return score, []
    _must_add_up(score, ratios)
    items = _item_names(sample["doc_hash"] for sample, _ in values)
    return score, [
        {
            "task": task.name,
            "metric": score.label,
            "item": item,
            "cluster": _cluster(sample["doc"]),
            "numerator": ratio.numerator,
            "denominator": ratio.denominator,
        }
        for item, (sample, _), ratio in zip(items, values, ratios, strict=True)
    ]


def ratio_standard_error(ratios: Sequence[Ratio]) -> float | None:
    """Standard error of sum(numerators) / sum(denominators) over independent items.

    Linearised: residuals of the numerators about the ratio (Cochran, Sampling Techniques, 3rd ed.
    1977, section 6.4, without the finite-population correction). With denominators of 1 it is the
    standard error of a mean. None for fewer than two items.
    """
    n = len(ratios)
    if n < 2:
        return None
    total = math.fsum(ratio.denominator for ratio in ratios)
    estimate = math.fsum(ratio.numerator for ratio in ratios) / total
    squares = math.fsum((ratio.numerator - estimate * ratio.denominator) ** 2 for ratio in ratios)
    return math.sqrt(n / (n - 1) * squares) / total


def _ratios(aggregation: Aggregation, values: Sequence[Any], score: float) -> list[Ratio] | None:
    """The values as ratios; None where the aggregation is not one of sums.

    An unknown aggregation of lists of right and wrong, as IFEval's over the instructions of each
    prompt, is taken for the share of all that are right where that is the score.
    """
    match aggregation:
        case Aggregation.MEAN:
            return [Ratio(float(value), 1.0) for value in values]
        case Aggregation.BITS_PER_BYTE:
            return [Ratio(-float(nats) / math.log(2), float(size)) for nats, size in values]
        case Aggregation.WEIGHTED_PERPLEXITY:
            return [Ratio(-float(nats), float(size)) for nats, size in values]
        case Aggregation.OTHER:
            return _shares_of_lists(values, score)


def _shares_of_lists(values: Sequence[Any], score: float) -> list[Ratio] | None:
    are_lists = all(isinstance(value, list | tuple) and value for value in values)
    if not values or not are_lists or not all(one in (0, 1) for value in values for one in value):
        return None
    ratios = [Ratio(float(sum(value)), float(len(value))) for value in values]
    return ratios if math.isclose(_quotient(ratios), score, rel_tol=1e-9, abs_tol=1e-9) else None


def _quotient(ratios: Sequence[Ratio]) -> float:
    return sum(ratio.numerator for ratio in ratios) / sum(ratio.denominator for ratio in ratios)


def _standard_error(
    aggregation: Aggregation, ratios: Sequence[Ratio], value: float
) -> float | None:
    stderr = ratio_standard_error(ratios)
    if stderr is not None and aggregation is Aggregation.WEIGHTED_PERPLEXITY:
        return stderr * value  # delta method: d exp(r) / dr = exp(r)
    return stderr


def _entries(entries: Mapping[str, Any]) -> Iterator[_Entry]:
    """The metrics among lm-eval's `metric,filter` keys of one task or group."""
    for key, value in entries.items():
        metric, comma, filter_name = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            stderr = entries.get(f"{metric}_stderr,{filter_name}", "N/A")
            known = None if stderr == "N/A" or not math.isfinite(stderr) else float(stderr)
            yield _Entry(metric, filter_name, float(value), known)


def _score(task: str, entry: _Entry, num_items: int, results: Mapping[str, Any]) -> Score:
    label = metric_label(entry.metric, entry.filter)
    if num_items == 0:
        raise ValueError(f"task '{task}' has no item with a value of {label}")
    if not math.isfinite(entry.value):
        raise ValueError(
            f"{label} of task '{task}' is {entry.value} over {num_items} items: "
            "the model gives no usable probabilities, or the task divides by zero"
        )
    return Score(
        task=task,
        metric=entry.metric,
        filter=entry.filter,
        value=entry.value,
        stderr=entry.stderr,
        num_items=num_items,
        higher_is_better=results["higher_is_better"].get(task, {}).get(entry.metric),
        num_fewshot=results["n-shot"].get(task),
    )


def _refuse_nan(task: EvaluatedTask) -> None:
    """NaN likelihoods must not end as an accuracy: the largest of NaNs is the first choice."""
    spoilt = sum(any(_has_nan(answer) for answer in s["filtered_resps"]) for s in task.samples)
    if spoilt:
        raise ValueError(
            f"the model's likelihoods are NaN for {spoilt} of {len(task.samples)} samples of task "
            f"'{task.name}': its weights or activations overflow"
        )


def _has_nan(answer: Any) -> bool:
    values = answer if isinstance(answer, list | tuple) else (answer,)
    return any(isinstance(value, float) and math.isnan(value) for value in values)


def _must_add_up(score: Score, ratios: Sequence[Ratio]) -> None:
    recomputed = _quotient(ratios)
    if not math.isclose(recomputed, score.value, rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(
            f"items of {score.task}/{score.label} add up to {recomputed}, "
            f"lm-eval says {score.value}"
        )


def _item_names(digests: Iterable[str]) -> Iterator[str]:
    """Digests made unique: a second item of equal content gets a number."""
    seen = Counter[str]()
    for digest in digests:
        seen[digest] += 1
        name = digest[:ITEM_DIGITS]
        yield name if seen[digest] == 1 else f"{name}-{seen[digest]}"


def _cluster(document: Any) -> str | None:
    """What an item was taken from, where it says so."""
    source = document.get("source") if isinstance(document, Mapping) else None
    return source if isinstance(source, str) else None
