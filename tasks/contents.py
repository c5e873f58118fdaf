"""What a spec or a result holds, wherever it stands in it: the artifacts it names, its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tasks.artifacts import ArtifactRef


def artifacts_in(value: Any) -> tuple[ArtifactRef, ...]:
    """Every artifact that a spec or result names, wherever it stands, each digest once."""
    found: dict[str, ArtifactRef] = {}
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, ArtifactRef):
            found.setdefault(item.digest, item)
        elif isinstance(item, BaseModel):
            pending.extend(getattr(item, name) for name in type(item).model_fields)
        elif isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
    return tuple(found[digest] for digest in sorted(found))


def seeds_in(spec: BaseModel, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The fields of a spec that are seeds, by dotted name."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            yield from seeds_in(value, f"{prefix}{name}.")
        elif isinstance(value, int) and (name == "seed" or name.endswith("_seed")):
            yield f"{prefix}{name}", value
