"""llmcompressor at work: builds its modifiers, runs them, and works around what 0.14 gets wrong.

    run(model, tokenizer, build_modifiers(recipe), loader, on_modules=progress.advance)

`on_modules` is told how many modules were just compressed; it is read from llmcompressor's log, as
its pipelines offer no callback.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from llmcompressor import oneshot, reset_session
from llmcompressor.modifiers import Modifier as LibraryModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from loguru import logger
from pydantic import ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tasks.compress.modifiers import Role
from tasks.compress.recipe import Modifier, Recipe

QUANTIZING = re.compile(r"^Quantizing (\d+) module\(s\)")
SPARSIFYING = re.compile(r"^Sparsifying ")


def build_modifiers(recipe: Recipe) -> list[LibraryModifier]:
    """llmcompressor's own objects, which check the values of fields; ValueError names the modifier.

    Cheap, so it comes before the model is loaded.
    """
    return [_build(modifier) for modifier in recipe.modifiers]


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modifiers: list[LibraryModifier],
    loader: Any | None,
    on_modules: Callable[[int], None],
) -> None:
    """Compress `model` in place. `loader` yields batches of input_ids; None where no data is used.

    A pipeline is picked per modifier, so that each calibrates on what the ones before it left.
    """
    with _modules_reported(on_modules), _no_pinned_memory_without_accelerator():
        oneshot(model=model, tokenizer=tokenizer, recipe=modifiers, dataset=loader)


def _build(modifier: Modifier) -> LibraryModifier:
    below = modifier.kind.module.removeprefix("llmcompressor.")
    # Spelt so that a reader of this line, and the code fingerprint, know whose module it is.
    library_class = getattr(importlib.import_module(f"llmcompressor.{below}"), modifier.name)
    fields = dict(modifier.fields)
    if modifier.kind.role is Role.PRUNE:
        fields["ignore"] = [_pruning_pattern(pattern) for pattern in modifier.ignore]
    try:
        built: LibraryModifier = library_class(**fields)
    except ValidationError as error:
        raise ValueError(
            "\n".join(
                f"{'.'.join([modifier.name, *map(str, item['loc'])])}: {item['msg']}, "
                f"found {item['input']!r}"
                for item in error.errors()
            )
        ) from error
    return built


def release_model() -> None:
    """Let go of the model, which llmcompressor's session holds until the next run."""
    reset_session()


def _pruning_pattern(pattern: str) -> str:
    """A plain name as a pattern, since 0.14.0.1 compares `ignore` with the name plus a dot.

    Unchanged, `ignore: [lm_head]` would prune lm_head without a word.
    """
    return pattern if pattern.startswith("re:") else f"re:{re.escape(pattern)}\\.?$"


@contextmanager
def _modules_reported(on_modules: Callable[[int], None]) -> Iterator[None]:
    def sink(message: Any) -> None:
        text = message.record["message"]
        if found := QUANTIZING.match(text):
            on_modules(int(found[1]))
        elif SPARSIFYING.match(text):
            on_modules(1)

    handle = logger.add(sink, level="INFO")
    try:
        yield
    finally:
        logger.remove(handle)


@contextmanager
def _no_pinned_memory_without_accelerator() -> Iterator[None]:
    """llmcompressor 0.14.0.1's AWQ pins memory even where there is no accelerator to pin it for."""
    if torch.accelerator.is_available():
        yield
        return
    pin_memory = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = pin_memory
