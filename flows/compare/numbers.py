"""The numbers and the artifacts of any result, by readable names.

dict(numbers_in(record.result))             # {"loss": 3.1, "scores[gsm8k/acc].value": 0.4}
dict(artifacts_in_result(record.result))    # {"model": ArtifactRef(…)}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.artifacts import ArtifactRef

REFERENCE_FIELDS = set(ArtifactRef.model_fields)
NAMES = (("task", "metric", "filter"), ("load", "repeat"), ("name",), ("path",), ("task",))
"""Fields that tell the entries of a list apart, the first set that an entry has."""


def numbers_in(tree: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number but those of artifacts; truth values are none."""
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        yield name, tree
    elif not is_reference(tree):
        for part, value in _parts(tree, name):
            yield from numbers_in(value, part)


def artifacts_in_result(tree: Any, name: str = "") -> Iterator[tuple[str, ArtifactRef]]:
    """Every artifact by the name of its field."""
    if is_reference(tree):
        yield name, ArtifactRef.model_validate(tree)
    else:
        for part, value in _parts(tree, name):
            yield from artifacts_in_result(value, part)


def is_reference(tree: Any) -> bool:
    """Whether a JSON value is an artifact's."""
    return isinstance(tree, Mapping) and set(tree) == REFERENCE_FIELDS


def _parts(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield (f"{name}.{key}" if name else str(key)), value
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield f"{name}[{_label(value) or index}]", value


def _label(entry: Any) -> str:
    if isinstance(entry, Mapping):
        for fields in NAMES:
            if set(fields) <= set(entry):
                return "/".join(str(entry[field]) for field in fields if entry[field] != "none")
    return ""
