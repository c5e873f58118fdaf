"""pydantic's complaints as `Problem`s: the line, the bad value, what is valid, the nearest name.

try:
    TrainSpec.model_validate(document.get(("steps", "train")))
except ValidationError as error:
    raise SpecError(problems_from(error, document, ("steps", "train"), TrainSpec)) from error
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.annotations import is_model, members_of
from tasks.documents import Document, Location
from tasks.errors import Problem, nearest

MAX_SHOWN_CHARACTERS = 60
INPUT_MODELS = {"ArtifactRef", "LocalPath", "PackageFiles"}

# Error types that speak of the type of a value, not of the value.
TYPE_MISMATCHES = re.compile(
    r"^(model|dict|list|tuple|set|string|int|float|bool|bytes|path|mapping|date|time)"
    r"(_attributes)?_(type|parsing|from_float)$|^is_instance_of$"
)

_WORDS = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "union_tag_not_found": "needs '{discriminator}'",
}
FOUND = ", found "

# What pydantic adds because of another error, which is told for its own sake.
ECHOES = {"default_factory_not_called"}


def problems_from(
    error: ValidationError,
    document: Document,
    location: Location,
    model: type[BaseModel],
    only: Callable[[ErrorDetails], bool] = lambda _: True,
) -> list[Problem]:
    """One problem for each place of the document that `model` refused; `location` is its root.

    `only` chooses among the complaints; the others are dropped.
    """
    found: dict[Location, list[str]] = {}
    for details in filter(only, error.errors()):
        if details["type"] in ECHOES:
            continue
        place = place_of(details, document.get(location))
        message = _message(details, document, (*location, *place), model)
        messages = found.setdefault((*location, *place), [])
        if message not in messages:
            messages.append(message)
    return [
        document.problem(place, _joined(_telling(messages)))
        for place, messages in found.items()
        if not any(deeper != place and deeper[: len(place)] == place for deeper in found)
        or place == location
    ]


def is_type_mismatch(details: ErrorDetails) -> bool:
    """Whether an error speaks of the type of a value, and would stand for any value of it."""
    return bool(TYPE_MISMATCHES.match(details["type"]))


def place_of(details: ErrorDetails, value: Any) -> Location:
    """Where in `value` an error stands, without the names of union members and their tags."""
    parts = details["loc"]
    place: list[str | int] = []
    for index, part in enumerate(parts):
        if isinstance(value, Mapping) and part in value:
            value = value[str(part)]
        elif isinstance(value, BaseModel) and isinstance(part, str) and hasattr(value, part):
            value = getattr(value, part)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif details["type"] == "missing" and index == len(parts) - 1:
            pass  # the key that is not there
        else:
            continue
        place.append(part)
    return tuple(place)


def _message(
    details: ErrorDetails, document: Document, place: Location, model: type[BaseModel]
) -> str:
    kind, context = details["type"], details.get("ctx") or {}
    shown = _shown(document.get(place, details["input"]))
    if kind == "extra_forbidden":
        valid = sorted(_fields_beside(model, details["loc"]))
        name = str(details["loc"][-1])
        return f"unknown key{nearest(name, valid) or _choices(valid)}"
    if kind in ("enum", "literal_error", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        valid = re.findall(r"'([^']*)'", expected) or [expected]
        given = str(context.get("tag") or details["input"])
        what = str(context.get("discriminator", "")).strip("'")
        where = f"{what} " if what else ""
        return f"{where}must be one of {', '.join(valid)}, found '{given}'{nearest(given, valid)}"
    if kind == "missing":
        description = _description(model, details["loc"])
        return f"is required: {description}" if description else "is required"
    if kind == "value_error":
        words = str(context.get("error", details["msg"]))
        return words if isinstance(details["input"], Mapping) else f"{words} (found {shown})"
    if kind == "union_tag_not_found":
        return f"needs {context.get('discriminator')} (found {shown})"
    if kind == "is_instance_of":
        return f"must be a reference such as ${{steps.NAME.FIELD}}{FOUND}{shown}"
    if kind == "model_type" and INPUT_MODELS.intersection(details["loc"][-1:]):
        return f"must be a path or an artifact{FOUND}{shown}"
    numbers = {key: f"{v:g}" if isinstance(v, float) else v for key, v in context.items()}
    words = _WORDS[kind].format(**numbers) if kind in _WORDS else details["msg"]
    return f"{_counted(words)}{FOUND}{shown}"


def _shown(value: Any) -> str:
    """A value as a person wrote it, cut to a readable length."""
    if isinstance(value, str):
        text = f"'{value}'"
    elif isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    else:
        text = str(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _choices(valid: Sequence[str]) -> str:
    return f"; valid here: {', '.join(valid)}" if valid else "; none is valid here"


def _telling(messages: list[str]) -> list[str]:
    """Of what each member of a union said, what is worth reading."""
    telling = [message for message in messages if not message.startswith("must be a mapping")]
    return (telling or messages)[:3]


def _joined(messages: list[str]) -> str:
    """`must be a number or text, found []` of what was said of one value."""
    heads, _, found = zip(*(message.partition(FOUND) for message in messages), strict=True)
    if len(set(found)) > 1 or not found[0]:
        return " or ".join(messages)
    first, *others = dict.fromkeys(heads)
    words = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    return f"{words}{FOUND}{found[0]}"


def _counted(words: str) -> str:
    """`1 item`, `2 items`"""
    return re.sub(r"\b1 (\w+)\(s\)", r"1 \1", words).replace("(s)", "s")


def _fields_beside(model: type[BaseModel], loc: Iterable[str | int]) -> set[str]:
    """The names that are valid where the last part of a location stands."""
    parents = _types_at(model, list(loc)[:-1])
    return {name for parent in parents if is_model(parent) for name in parent.model_fields}


def _description(model: type[BaseModel], loc: Iterable[str | int]) -> str:
    *path, last = loc
    for parent in _types_at(model, path):
        if is_model(parent) and last in parent.model_fields:
            return parent.model_fields[last].description or ""
    return ""


def _types_at(model: Any, loc: Sequence[str | int]) -> list[Any]:
    """The types that may stand at a location, following fields, items and union members."""
    current = list(members_of(model))
    for part in loc:
        inner = [
            member
            for candidate in current
            for annotation in _inside(candidate, part)
            for member in members_of(annotation)
        ]
        named = [c for c in current if getattr(c, "__name__", None) == part or _tag(c) == part]
        current = inner or named or current
    return current


def _inside(candidate: Any, part: str | int) -> Iterator[Any]:
    if is_model(candidate):
        if part in candidate.model_fields:
            yield candidate.model_fields[part].annotation
        return
    arguments = [a for a in get_args(candidate) if a is not Ellipsis]
    origin = get_origin(candidate)
    if isinstance(part, int) and origin in (list, tuple, set, frozenset):
        yield from arguments
    elif isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
        yield arguments[1]


def _tag(candidate: Any) -> str | None:
    """The value of a union member's own `kind`-like literal field."""
    if not is_model(candidate):
        return None
    for info in candidate.model_fields.values():
        values = get_args(info.annotation)
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
    return None
