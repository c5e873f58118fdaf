"""Values that stand where a step's result will: enough to check a spec before anything has run.

A placeholder has the type of the result's field. What a spec says about its type is true of every
value; what it says about the value itself is not known yet, and is checked when the value is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.experiment.references import StepReference, Template, references_in
from tasks.annotations import is_model, members_of
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.documents import Document, Location
from tasks.errors import Problem, nearest
from tasks.problems import is_type_mismatch, place_of, problems_from

UNKNOWN = object()
_ZERO_DIGEST = "0" * 64
_SCALARS: dict[Any, Any] = {int: 1, float: 1.0, str: "unknown", bool: True, Path: Path("unknown")}


def annotation_at(result_type: type[BaseModel], path: Location) -> Any:
    """The type of a part of a result; raises ValueError with the nearest name if there is none."""
    current: Any = result_type
    for part in path:
        candidates = [
            inner for member in members_of(current) for inner in types_inside(member, part)
        ]
        if not candidates:
            models = [member for member in members_of(current) if is_model(member)]
            valid = sorted({name for model in models for name in model.model_fields})
            hint = nearest(str(part), valid) or (f"; it has {', '.join(valid)}" if valid else "")
            raise ValueError(f"has no field '{part}'{hint}")
        current = candidates[0]
    return current


def placeholder(annotation: Any) -> Any:
    """A value of the type, or `UNKNOWN` where none can be made up."""
    for member in members_of(annotation):
        if member is ArtifactRef:
            return ArtifactRef(
                kind=ArtifactKind.FILE, digest=_ZERO_DIGEST, size_bytes=0, name="not made yet"
            )
        if member in _SCALARS:
            return _SCALARS[member]
        if isinstance(member, type) and issubclass(member, Enum):
            return next(iter(member))
        if get_origin(member) is Literal:
            return get_args(member)[0]
        if is_model(member):
            return member.model_construct(
                **{name: placeholder(info.annotation) for name, info in member.model_fields.items()}
            )
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, list) and arguments:
            return origin([placeholder(arguments[0])])
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            return {"unknown": placeholder(arguments[1])}
    return UNKNOWN


def may_stand_in_text(annotation: Any) -> bool:
    """Whether a value of the type can be a text or a number."""
    members = tuple(members_of(annotation))
    return any(
        member is Any
        or member in _SCALARS
        or (isinstance(member, type) and issubclass(member, Enum))
        for member in members
    )


def with_placeholders(tree: Any, types_of: Mapping[StepReference, Any]) -> Any:
    """The tree with a placeholder for every reference."""
    if isinstance(tree, StepReference):
        return placeholder(types_of[tree])
    if isinstance(tree, Template):
        return "unknown"
    if isinstance(tree, Mapping):
        return {key: with_placeholders(value, types_of) for key, value in tree.items()}
    if isinstance(tree, list):
        return [with_placeholders(value, types_of) for value in tree]
    return tree


def known_problems(
    error: ValidationError,
    document: Document,
    location: Location,
    model: type[BaseModel],
    tree: Any,
    types_of: Mapping[StepReference, Any],
) -> list[Problem]:
    """Of a spec's complaints about placeholders, those that hold whatever the values will be."""
    references = dict(references_in(tree))
    return problems_from(
        error,
        document,
        location,
        model,
        only=lambda details: _holds(details, place_of(details, tree), references, types_of),
    )


def _holds(
    details: ErrorDetails,
    place: Location,
    references: Mapping[Location, StepReference | Template],
    types_of: Mapping[StepReference, Any],
) -> bool:
    """Whether a complaint is about the file, and not about a value that was made up."""
    for at, reference in references.items():
        if place[: len(at)] == at:
            is_unknown = isinstance(reference, StepReference) and _is_open(types_of[reference])
            return is_type_mismatch(details) and not is_unknown
        if at[: len(place)] == place and details["type"] in ("value_error", "assertion_error"):
            return isinstance(reference, StepReference) and _is_artifact(types_of[reference])
    return True


def _is_open(annotation: Any) -> bool:
    return placeholder(annotation) is UNKNOWN


def _is_artifact(annotation: Any) -> bool:
    return ArtifactRef in members_of(annotation)


def types_inside(member: Any, part: str | int) -> Iterator[Any]:
    """The types of a part of a value of this type; none where it has no such part."""
    if is_model(member):
        if part in member.model_fields:
            yield member.model_fields[part].annotation
        return
    origin, arguments = get_origin(member), get_args(member)
    if isinstance(part, int) and origin in (tuple, list) and arguments:
        yield arguments[0]
    elif isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        yield arguments[1]
