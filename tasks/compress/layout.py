"""The linear layers of a model, read from its headers: names, shapes, dtypes. No torch.

    layout = read_layout(Path("model"))
    layout.matching(["Linear"], ignore=["lm_head"])[0].in_features
    layout.unmatched(["lm_haed"])                   # ('lm_haed',)

A header does not tell a module's class. Two-dimensional weights that are not embeddings count as
`Linear`, which holds for decoder models; a pattern that names another class is given the benefit of
the doubt here, and `loaded.py` reads the loaded model, where classes are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.model_folder import check_model_folder, read_config

EMBEDDING = re.compile(r"(^|[._])(embed|embeddings?|wte|wpe|embed_tokens|embed_in)$")
CLASS_NAME = re.compile(r"^[A-Z]\w*$")


@dataclass(frozen=True)
class Linear:
    """One linear layer; its weight is [out_features, in_features]."""

    name: str
    out_features: int
    in_features: int
    element_bytes: int

    @property
    def num_weights(self) -> int:
        return self.out_features * self.in_features


@dataclass(frozen=True)
class ModelLayout:
    """What of a model matters to a recipe."""

    linears: tuple[Linear, ...]
    modules: frozenset[str]  # every module's name, those that hold no tensor included
    size_bytes: int  # of the tensors that are stored; a tied weight once
    max_positions: int | None
    has_tied_head: bool

    def matching(self, targets: Iterable[str], ignore: Iterable[str] = ()) -> list[Linear]:
        """Linear layers that a target matches and nothing in `ignore` does."""
        targets, ignore = list(targets), list(ignore)
        return [
            linear
            for linear in self.linears
            if any(matches(linear.name, target) for target in targets)
            and not any(matches(linear.name, pattern) for pattern in ignore)
        ]

    def unmatched(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Patterns that match no module of the model (class names are not told here)."""
        return tuple(
            pattern
            for pattern in patterns
            if not CLASS_NAME.match(pattern)
            and not any(matches(module, pattern) for module in self.modules)
        )


def matches(name: str, pattern: str) -> bool:
    """compressed-tensors's rule for a linear layer: `re:` from the start, a name, or a class."""
    if pattern.startswith("re:"):
        return re.match(pattern.removeprefix("re:"), name) is not None
    return pattern in (name, "Linear")


def read_layout(folder: Path) -> ModelLayout:
    """From config.json and the safetensors headers; ValueError where they cannot be read."""
    config = read_config(folder)
    tensors = check_model_folder(folder)
    linears = []
    modules: set[str] = set()
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        modules.update(with_parents(module))
        if parameter == "weight" and len(tensor.shape) == 2 and not EMBEDDING.search(module):
            out_features, in_features = tensor.shape
            element_bytes = tensor.size_bytes // max(1, out_features * in_features)
            linears.append(Linear(module, out_features, in_features, element_bytes))
    text_config = config.get("text_config", config)
    has_tied_head = bool(text_config.get("tie_word_embeddings", config.get("tie_word_embeddings")))
    if has_tied_head:
        modules.add("lm_head")
    return ModelLayout(
        linears=tuple(linears),
        modules=frozenset(modules),
        size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
        max_positions=text_config.get("max_position_embeddings"),
        has_tied_head=has_tied_head,
    )


def with_parents(module: str) -> Iterable[str]:
    """`a.b.c`, `a.b`, `a`."""
    while module:
        yield module
        module = module.rpartition(".")[0]
