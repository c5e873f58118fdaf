"""Items that two models answered differently, out of what the evaluations kept of every answer.

    for item in differing(paths, baseline="baseline"):       # paths: outputs.jsonl by model
        item.task, item.prompt, item.answers["w8a8"].text

Items are matched by task, filter, place and digest of their content. Of each task those come first
on which some model's scores are farthest from the baseline's. Files are read line by line, twice:
of a large evaluation only scores and a few items are ever in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PER_TASK = 3
MAX_TASKS = 6
MAX_CHARACTERS = 1200

Key = tuple[str, str, str, str]  # task, filter, place, digest


class Answer(NamedTuple):
    """What a model made of an item: text or choice, and its scores in words."""

    text: str
    scores: str


class Item(NamedTuple):
    """One item and the answers of all models that were asked it, the baseline's first."""

    task: str
    prompt: str
    target: str
    answers: Mapping[str, Answer]


def differing(paths: Mapping[str, Path], baseline: str) -> list[Item]:
    """At most `PER_TASK` items of at most `MAX_TASKS` tasks."""
    base = {key: scores for key, scores, _ in _lines(paths[baseline])}
    farthest: dict[Key, float] = {}
    for name, path in paths.items():
        if name == baseline:
            continue
        for key, scores, _ in _lines(path):
            if key in base:
                both = scores.keys() & base[key].keys()
                distance = sum(abs(scores[metric] - base[key][metric]) for metric in both)
                farthest[key] = max(distance, farthest.get(key, 0.0))
    chosen: list[Key] = []
    for task in list(dict.fromkeys(key[0] for key in farthest))[:MAX_TASKS]:
        keys = [key for key in farthest if key[0] == task and farthest[key] > 0]
        chosen += sorted(keys, key=lambda key: (-farthest[key], key))[:PER_TASK]
    answers: dict[Key, dict[str, Answer]] = {key: {} for key in chosen}
    asked: dict[Key, dict[str, Any]] = {}
    for name in [baseline, *(name for name in paths if name != baseline)]:
        for key, scores, line in _lines(paths[name]):
            if key in answers:
                answers[key][name] = Answer(_answer(line), _words(scores))
                asked.setdefault(key, line)
    return [
        Item(key[0], _prompt(asked[key]), _target(asked[key]), answers[key])
        for key in chosen
        if key in asked
    ]


def _lines(path: Path) -> Iterator[tuple[Key, dict[str, float], dict[str, Any]]]:
    """Every well-formed line with its key and its scores."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if not isinstance(line, dict) or "task" not in line:
                continue
            parts = ("task", "filter", "doc_id", "doc_hash")
            task, rule, place, digest = (str(line.get(part, "")) for part in parts)
            yield (task, rule, place, digest), _scores(line), line


def _scores(line: Mapping[str, Any]) -> dict[str, float]:
    """Metrics that are a number, or a sum over a weight such as bits over bytes."""
    names = line.get("metrics")
    found = {}
    for name in names if isinstance(names, list) else ():
        match line.get(name):
            case bool(value) | int(value) | float(value):
                found[name] = float(value)
            case [int() | float() as above, int() | float() as below] if below:
                found[name] = above / below
    return found


def _words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())


def _choices(line: Mapping[str, Any]) -> list[str]:
    """The continuations that were weighed, where the item is one of choice."""
    arguments = line.get("arguments")
    if not isinstance(arguments, list) or len(arguments) < 2:
        return []
    is_pair = all(isinstance(one, list) and len(one) == 2 for one in arguments)
    return [str(one[1]) for one in arguments] if is_pair else []


def _prompt(line: Mapping[str, Any]) -> str:
    match line.get("arguments"):
        case [[first, *_], *_]:
            return _cut(str(first), from_end=True)
        case _:
            return ""


def _target(line: Mapping[str, Any]) -> str:
    """The right answer; empty where it is the text itself, as of a likelihood."""
    target, choices = str(line.get("target", "")), _choices(line)
    if choices and target.isdecimal() and int(target) < len(choices):
        return _cut(choices[int(target)])
    is_the_prompt = isinstance(line.get("arguments"), list) and target in _first(line)
    return "" if is_the_prompt else _cut(target)


def _first(line: Mapping[str, Any]) -> str:
    match line.get("arguments"):
        case [[str(first), *_], *_]:
            return first
        case _:
            return ""


def _answer(line: Mapping[str, Any]) -> str:
    """The likeliest choice, the text that was generated, or the likelihood in nats."""
    answers, choices = line.get("filtered_resps"), _choices(line)
    if not isinstance(answers, list) or not answers:
        return ""
    weights = [one[0] if isinstance(one, list) and one else one for one in answers]
    if choices and len(choices) == len(weights) and _are_numbers(weights):
        likeliest = max(range(len(weights)), key=lambda i: weights[i])
        return _cut(choices[likeliest])
    if _are_numbers(weights):
        return f"{weights[0]:.6g} nats"
    return _cut(str(weights[0]))


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _cut(text: str, from_end: bool = False) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"… {text[-MAX_CHARACTERS:]}" if from_end else f"{text[:MAX_CHARACTERS]} …"
