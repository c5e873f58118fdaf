"""Under which circumstances two results came to be, and where those differ: pure.

    differences([Pair(train_of_a, train_of_b)])
    # (Difference(Aspect.VERSIONS, "torch", baseline="2.13.0", other="2.14.0", steps=("train",)),)

A cached result has the circumstances of whoever computed it, which its record names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from flows.compare.subjects import Pair
from flows.experiment.measured import MeasuredStep
from tasks.spec import Frozen

BUDGETS = {
    "train": ("num_steps", "batch_size", "gradient_accumulation_steps"),
    "evaluate": ("limit",),
    "benchmark": ("num_requests", "max_seconds", "warmup_requests", "repeats"),
    "compress": ("num_samples", "sequence_length"),
}
"""Fields of specs that say how much was spent."""
DEVICES = ("device_kind", "precision", "dtype", "backend", "hardware")


class Aspect(StrEnum):
    """The side on which the circumstances differ."""

    HARDWARE = "hardware"
    VERSIONS = "versions"
    CODE = "code"
    SEEDS = "seeds"
    BUDGET = "budget"
    DEVICE = "device"
    OCCASION = "occasion"


class Difference(Frozen):
    """One circumstance that is not the same in two runs."""

    aspect: Aspect = Field(description="Side on which they differ.")
    what: str = Field(description="What it is, e.g. a package or `cpu_model`.")
    baseline: JsonValue = Field(description="In the baseline; null where it is not known.")
    other: JsonValue = Field(description="In the other run; null where it is not known.")
    steps: tuple[str, ...] = Field(description="Steps of which this is so.")

    def __str__(self) -> str:
        return f"{self.what} {in_short(self.baseline)} against {in_short(self.other)}"


def differences(pairs: Iterable[Pair]) -> tuple[Difference, ...]:
    """Every circumstance that differs, with the steps of which it does."""
    found: dict[tuple[Aspect, str, str, str], Difference] = {}
    for pair in pairs:
        if pair.is_one_result:
            continue
        before, after = dict(_facts(pair.baseline)), dict(_facts(pair.other))
        for key in dict.fromkeys((*before, *after)):
            old, new = before.get(key), after.get(key)
            if old == new:
                continue
            place = (*key, json.dumps(old), json.dumps(new))
            steps = (*(found[place].steps if place in found else ()), pair.name)
            found[place] = Difference(
                aspect=key[0], what=key[1], baseline=old, other=new, steps=steps
            )
    order = list(Aspect)
    return tuple(sorted(found.values(), key=lambda item: order.index(item.aspect)))


def _facts(step: MeasuredStep) -> Iterator[tuple[tuple[Aspect, str], Any]]:
    spec, came = step.record.spec, step.record.provenance
    for name, value in _mapping(came.get("hardware")).items():
        if name != "fingerprint":  # made of the others
            yield (Aspect.HARDWARE, name), value
    yield (Aspect.HARDWARE, "host"), came.get("host")
    yield (Aspect.VERSIONS, "python"), came.get("python")
    for package, version in _mapping(came.get("versions")).items():
        yield (Aspect.VERSIONS, package), version
    yield (Aspect.VERSIONS, "core lock"), came.get("core_lock")
    for part in ("labwright", "project"):
        state = _mapping(came.get(part))
        yield (Aspect.CODE, f"{part} commit"), state.get("commit")
        yield (Aspect.CODE, f"{part} changes"), state.get("diff_sha256")
        yield (Aspect.CODE, f"{part} untracked files"), state.get("untracked_sha256")
    for name, seed in _mapping(came.get("seeds")).items():
        yield (Aspect.SEEDS, name), seed
    for name in BUDGETS.get(step.kind, ()):
        yield (Aspect.BUDGET, name), spec.get(name)
    if "num_tokens" in step.record.result:
        yield (Aspect.BUDGET, "num_tokens"), step.record.result["num_tokens"]
    for score in step.record.result.get("scores", ()):
        yield (Aspect.BUDGET, f"items of {score.get('task')}"), score.get("num_items")
    for name in DEVICES:
        if name in spec:
            yield (Aspect.DEVICE, name), spec[name]
    if step.kind != "command":  # there it only tells runs apart
        yield (Aspect.OCCASION, "occasion"), spec.get("occasion")


def _mapping(value: Any) -> Mapping[str, Any]:
    """Records of elsewhere may lack a part."""
    return value if isinstance(value, Mapping) else {}


def in_short(value: JsonValue) -> str:
    """A digest by its beginning, absence as a word."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) in (40, 64) and text.isalnum() else text
