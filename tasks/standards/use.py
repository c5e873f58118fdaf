"""A standard used by a spec: by name, by path or inline, refined by overrides, never contradicted.

    standard: openllm                       # or a path, or the fields themselves
    overrides: {max_length: 2048}           # what this spec wants otherwise than the standard
    limit: 200                              # what the standard does not say

A key that spec and standard give with different values is an error that names both places: a value
that looks like a setting and is ignored, or one that silently wins, would be a wrong number later.
The spec holds the values afterwards, and no trace of the standard's name: an edited standard is
another evaluation, a renamed one is the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks.canonical import canonical_json
from tasks.documents import Mark, dotted, load_yaml
from tasks.errors import SpecError, nearest
from tasks.spec import Spec
from tasks.standards import STANDARD_NAME, Standard, StandardKind, load, load_file

KEYS = ("standard", "overrides")


class Content(NamedTuple):
    """What a standard says, and where it says it."""

    title: str  # in messages
    values: dict[str, Any]
    marks: Mapping[str, Mark]  # of each dotted key in its file; empty for one written inline

    def where(self, key: str) -> str:
        mark = self.marks.get(key)
        return f"{self.title} ({mark.source}:{mark.line}:{mark.column})" if mark else self.title


class StandardSpec(Spec):
    """A spec that a standard may fill in; the standard is gone once it has."""

    standard_kind: ClassVar[StandardKind]

    standard: str | dict[str, Any] | None = Field(
        default=None,
        description="Standard that sets fields below: a name (see `labwright standards list`), a "
        "path, or the fields themselves.",
    )
    overrides: dict[str, Any] | None = Field(
        default=None, description="Fields of the standard, with other values than it has."
    )

    @model_validator(mode="before")
    @classmethod
    def _use_standard(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        base_dir = Path((info.context or {}).get("base_dir", Path.cwd()))
        valid = [name for name in cls.model_fields if name not in ("model", *KEYS)]
        return with_standard(cls.standard_kind, value, base_dir, valid)

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_refused(cls, value: Any) -> Any:
        if isinstance(value, Refused):
            raise ValueError(value.message)
        return value


@dataclass(frozen=True)
class Refused:
    """Stands where a value was given that cannot be, so that its error is told at its place."""

    message: str
    given: Any

    def __str__(self) -> str:
        return str(self.given)


def with_standard(
    kind: StandardKind, fields: Mapping[str, Any], base_dir: Path, valid: Collection[str]
) -> dict[str, Any]:
    """A spec's fields with its standard's written out; `Refused` stands for what cannot be.

    `valid` are the fields that a standard of this kind may set.
    """
    given, overrides = (fields.get(key) for key in KEYS)
    own = {key: value for key, value in fields.items() if key not in KEYS}
    if given is None:
        if overrides is not None:
            own["overrides"] = Refused("there is no standard to override", overrides)
        return own
    try:
        content = resolve(kind, given, base_dir)
    except (SpecError, ValueError) as error:
        return {**own, "standard": Refused(str(error), given)}
    wrong = [f"'{key}'{nearest(key, valid)}" for key in content.values if key not in valid]
    if wrong:
        message = f"{content.title} sets what no such step has: {', '.join(wrong)}"
        return {**own, "standard": Refused(message, given)}
    problem = _problem_of_overrides(overrides, content, own)
    if problem:
        return {**content.values, **own, "overrides": Refused(problem, overrides)}
    values = {**content.values, **(overrides or {})}
    clashes = {
        key: Refused(_clash(key, own[key], content), own[key])
        for key in own.keys() & values.keys()
        if not _equal(own[key], values[key])
    }
    return {**values, **own, **clashes}


def resolve(kind: StandardKind, given: Any, base_dir: Path) -> Content:
    """A standard by name, by path, or inline: whole, or its content alone.

    Raises `SpecError` for one that is not there or not right, ValueError for what is neither.
    """
    if isinstance(given, Mapping):
        values = given.get("content", given)
        if not isinstance(values, Mapping):
            raise ValueError("an inline standard is a mapping, or has one as its content")
        return Content("the inline standard", dict(values), {})
    if not isinstance(given, str | Path):
        raise ValueError("a standard is given by name, by path, or as a mapping")
    if isinstance(given, str) and re.fullmatch(STANDARD_NAME, given):
        standard = load(kind, given)
    else:
        standard = load_file(kind, base_dir / Path(given).expanduser())
    return Content(f"standard '{standard.name}'", dict(standard.content), marks_in(standard))


def marks_in(standard: Standard) -> dict[str, Mark]:
    """Where each part of a standard's content is written, by dotted key: `groups.openllm.gsm8k`."""
    return {
        dotted(location[1:]): mark
        for location, mark in load_yaml(standard.path).marks.items()
        if location[:1] == ("content",) and len(location) > 1
    }


def _problem_of_overrides(overrides: Any, content: Content, own: Mapping[str, Any]) -> str | None:
    if overrides is None:
        return None
    if not isinstance(overrides, Mapping):
        return "must be a mapping of the standard's keys to other values"
    problems = [
        f"'{key}' is not in {content.title}{nearest(key, content.values)}; give it beside"
        for key in overrides
        if key not in content.values
    ]
    problems += [
        f"'{key}' is given beside as well: {own[key]} there, {overrides[key]} here"
        for key in overrides
        if key in own and not _equal(own[key], overrides[key])
    ]
    return "; ".join(problems) or None


def _clash(key: str, given: Any, content: Content) -> str:
    return (
        f"{given} here, {content.values[key]} in {content.where(key)}: "
        f"leave one out, or write overrides: {{{key}: {given}}}"
    )


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same once written down; a tuple is a list."""
    try:
        return canonical_json(one) == canonical_json(other)
    except (TypeError, ValueError):
        return bool(one == other)
