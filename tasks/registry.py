"""The kinds of steps that files and the command line can name.

step_of("train").spec_type        # imports tasks.train, and nothing heavy
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from tasks.errors import SpecError, nearest
from tasks.step import Step

STEPS = {
    "prepare": "tasks.prepare:prepare",
    "train": "tasks.train:train",
    "compress": "tasks.compress:compress",
    "evaluate": "tasks.evaluate:evaluate",
    "benchmark": "tasks.benchmark:benchmark",
    "analyze": "tasks.analyze:analyze",
    "gate": "tasks.gate:gate",
    "command": "tasks.command:command",
}
"""Kind to `module:attribute` of its step."""


def step_of(kind: str) -> Step[Any, Any]:
    """The step of a kind; `SpecError` with the nearest kind where there is none."""
    if kind not in STEPS:
        raise SpecError(unknown_kind(kind))
    return _import(STEPS[kind])


def unknown_kind(kind: str) -> str:
    """What to say about a kind that does not exist."""
    return f"must be one of {', '.join(STEPS)}, found '{kind}'{nearest(kind, STEPS)}"


@functools.cache
def _import(target: str) -> Step[Any, Any]:
    module, _, attribute = target.partition(":")
    step = getattr(importlib.import_module(module), attribute)
    if not isinstance(step, Step):
        raise TypeError(f"{target} is not a step")
    return step
