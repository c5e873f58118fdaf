"""Whether two results may be held against each other, and what else may have moved them: pure.

    obstacle(Measure.SPEED, "", pair, differences) # "other hardware: num_cpus 2 against 8"
    caveats(Measure.SCORE, pair, differences)      # ("torch 2.13.0 against 2.14.0",)

Speed is of a machine, a workload and an amount of it; a score is of what was asked, and how; a loss
is of the tokens that it is the mean over. Where that differs, no difference of numbers is offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flows.compare.rows import Measure
from flows.compare.subjects import Pair
from flows.compare.surroundings import Aspect, Difference, in_short

MACHINE = ("cpu_model", "num_cpus", "architecture", "gpu_models", "hardware")
LOAD = ("num_requests", "max_seconds", "warmup_requests")
QUESTION = (
    *("apply_chat_template", "disable_thinking", "fewshot_as_multiturn", "generation"),
    *("num_fewshot", "system_instruction"),
)
"""Fields of an evaluation that say what the model is asked, beside the items."""
TASK_FILES = ("mirror", "task_folder")
BESIDE = {"host", "kernel", "memory_bytes", "core lock"}  # shown, and no reason for a difference
MOVERS = {
    Measure.SCORE: (Aspect.HARDWARE, Aspect.VERSIONS, Aspect.SEEDS, Aspect.DEVICE),
    Measure.LOSS: (
        *(Aspect.HARDWARE, Aspect.VERSIONS, Aspect.SEEDS, Aspect.BUDGET, Aspect.DEVICE),
    ),
    Measure.SPEED: (Aspect.VERSIONS, Aspect.SEEDS, Aspect.OCCASION),
    Measure.SIZE: (),
    Measure.OTHER: (),
}
"""Circumstances that may move a number without making it one of something else."""


def obstacle(measure: Measure, what: str, pair: Pair, found: Iterable[Difference]) -> str | None:
    """Why the numbers are of different things; None where they are not."""
    match measure:
        case Measure.SPEED:
            return (
                _machine(found)
                or _field(pair, ("workload",), "another workload")
                or _field(pair, LOAD, "another amount of load")
            )
        case Measure.SCORE:
            return _field(pair, QUESTION, "asked otherwise")
        case Measure.LOSS:
            return _other_tokens(what, pair)
        case _:
            return None


def caveats(measure: Measure, pair: Pair, found: Iterable[Difference]) -> tuple[str, ...]:
    """What differs besides, in words."""
    circumstances = tuple(
        str(item)
        for item in found
        if item.aspect in MOVERS[measure] and item.what not in BESIDE and not _is_count(item)
    )
    return (*circumstances, *_other_tasks(pair)) if measure is Measure.SCORE else circumstances


def _other_tasks(pair: Pair) -> Iterator[str]:
    """Items are told apart by content; the words around them stand in the tasks' files."""
    before, after = pair.baseline.record.spec, pair.other.record.spec
    for name in TASK_FILES:
        if _content(before.get(name)) != _content(after.get(name)):
            yield f"files in {name} that differ"


def _is_count(item: Difference) -> bool:
    return item.what.startswith("items of ")  # said by the comparison of the items themselves


def _machine(found: Iterable[Difference]) -> str | None:
    parts = [str(item) for item in found if item.what in MACHINE]
    return f"other hardware: {', '.join(parts)}" if parts else None


def _field(pair: Pair, names: Iterable[str], words: str) -> str | None:
    before, after = pair.baseline.record.spec, pair.other.record.spec
    parts = [
        f"{name} {in_short(before.get(name))} against {in_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]
    return f"{words}: {', '.join(parts)}" if parts else None


def _other_tokens(what: str, pair: Pair) -> str | None:
    """A training's losses are of its tokens, a compression's of its calibration sample."""
    fields: tuple[str, ...]
    match pair.baseline.kind, "validation" in what:
        case "train", True:
            fields = ("validation_tokens", "num_validation_batches", "batch_size")
        case "train", False:
            fields = ("train_tokens",)
        case _:
            fields = ("calibration", "num_samples", "sequence_length", "seed")
    before, after = pair.baseline.record.spec, pair.other.record.spec
    parts = [name for name in fields if _content(before.get(name)) != _content(after.get(name))]
    return f"mean over other tokens: {', '.join(parts)} differ" if parts else None


def _content(value: Any) -> Any:
    """An artifact is what its digest says, whatever it is called."""
    return value["digest"] if isinstance(value, Mapping) and "digest" in value else value
