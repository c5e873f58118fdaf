"""The fields of a spec as rows of a table: name, type, default, description.

Nested specs are written out with dotted names, those within a mapping or list below NAME or N; the
members of a union by their `kind`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tasks.annotations import is_model, members_of
from tasks.artifacts import ArtifactRef, LocalPath, PackageFiles

NAMES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    type(None): "null",
    Any: "anything",
    ArtifactRef: "artifact",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
INPUT = {ArtifactRef, LocalPath, PackageFiles}


class FieldRow(NamedTuple):
    """One line of a spec's help."""

    name: str
    type: str
    default: str
    description: str


def field_rows(
    model: type[BaseModel], prefix: str = "", is_within: bool = False
) -> Iterator[FieldRow]:
    """Every field, and below each the fields of what it holds.

    `is_within` a mapping or list, those that come below are not written out.
    """
    for name, info in model.model_fields.items():
        full = f"{prefix}{name}"
        yield FieldRow(full, type_words(info), default_words(info), info.description or "")
        taken = taken_by(info)
        yield from _rows_of(full, members_of(taken), is_within)
        for holder in () if is_within else members_of(taken):
            if items := _items(holder):
                yield from _rows_of(f"{full}.{items[0]}", members_of(items[1]), is_within=True)


def _rows_of(full: str, held: Iterable[Any], is_within: bool) -> Iterator[FieldRow]:
    members = [member for member in held if is_nested(member)]
    for member in members:
        tag = tag_of(member) if len(members) > 1 else ""
        inner = f"{full}({tag})." if tag else f"{full}."
        rows = field_rows(member, inner, is_within)
        yield from (row for row in rows if not (tag and row.name == f"{inner}kind"))


def _items(holder: Any) -> tuple[str, Any] | None:
    """How an item of a mapping or list is called, and its type."""
    origin, arguments = get_origin(holder), get_args(holder)
    if origin is dict:
        return "NAME", arguments[1]
    return ("N", arguments[0]) if origin in (list, tuple) and arguments else None


def taken_by(info: FieldInfo) -> Any:
    """What may be written there: what its validator takes, where that is declared."""
    declared = (getattr(item, "json_schema_input_type", Any) for item in info.metadata)
    return next((own for own in declared if own not in (Any, PydanticUndefined)), info.annotation)


def type_words(info: FieldInfo) -> str:
    """`whole number, at least 1`"""
    words = _words(taken_by(info))
    for constraint in info.metadata:
        for attribute, meaning in BOUNDS.items():
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                words += f", {meaning} {bound:g}" if isinstance(bound, int | float) else ""
    return words


def default_words(info: FieldInfo) -> str:
    """The default as YAML would write it; `required` where there is none."""
    if info.is_required():
        return "required"
    if info.default_factory_takes_validated_data:
        return "computed"
    return _value_words(info.get_default(call_default_factory=True))


def _value_words(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value_words(item) for item in value)}]"
    if isinstance(value, dict):
        return "{}" if not value else str(value)
    return repr(value) if value == "" else str(value)


def _words(annotation: Any) -> str:
    members = list(members_of(annotation))
    if LocalPath in members:
        rest = [_one(member) for member in members if member not in INPUT]
        return " or ".join(["path or artifact", *rest])
    return " or ".join(dict.fromkeys(_one(member) for member in members))


def _one(member: Any) -> str:
    if member in NAMES:
        return NAMES[member]
    origin, arguments = get_origin(member), get_args(member)
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if isinstance(member, type) and issubclass(member, Enum):
        return " | ".join(str(item.value) for item in member)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_words(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"mapping to {_words(arguments[1])}"
    if is_nested(member):
        tag = tag_of(member)
        return f"{{kind: {tag}}}" if tag else "mapping"
    return getattr(member, "__name__", str(member))


def is_nested(member: Any) -> bool:
    return is_model(member) and member not in INPUT


def tag_of(member: type[BaseModel]) -> str:
    """The `kind` of a member of a union."""
    kind = member.model_fields.get("kind")
    values = get_args(kind.annotation) if kind else ()
    return str(values[0]) if len(values) == 1 else ""
