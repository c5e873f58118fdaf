"""`--set steps.compress.group_size=64`: one value of a file, replaced before it is read.

The value is YAML. A field that the file leaves to its default may be set; a step that the file does
not have may not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from tasks.documents import Document, Location, Mark, parse_yaml
from tasks.errors import Problem, SpecError, nearest

SOURCE = "--set"


def apply_overrides(document: Document, overrides: Iterable[str]) -> Document:
    """The document with every override applied; raises `SpecError` with all that is wrong."""
    value, marks = copy.deepcopy(document.value), dict(document.marks)
    problems: list[Problem] = []
    for override in overrides:
        try:
            keys, new = _parse(override)
            place = _put(value, keys, new, override)
        except SpecError as error:
            problems += error.problems
            continue
        source = f"{SOURCE} {override}"
        for location in [location for location in marks if location[: len(place)] == place]:
            del marks[location]
        marks[place] = Mark(source, None, None)
    if problems:
        raise SpecError(problems)
    return document.with_value(value, marks)


def _parse(override: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SpecError([Problem("is written KEY.KEY=VALUE", f"{SOURCE} {override}")])
    return tuple(key.split(".")), parse_yaml(text, f"{SOURCE} {override}")[0]


def _put(tree: Any, keys: tuple[str, ...], new: Any, override: str) -> Location:
    """Set the value below `keys`; returns its location, list items by number."""
    place: list[str | int] = []
    for depth, key in enumerate(keys):
        is_last = depth == len(keys) - 1
        if isinstance(tree, list):
            if not key.isdecimal() or int(key) >= len(tree):
                raise _unknown(override, key, [str(i) for i in range(len(tree))])
            part: str | int = int(key)
        elif isinstance(tree, dict):
            part = key
            may_be_new = depth >= (2 if place[:1] == ["steps"] else 1)
            if key not in tree and not may_be_new:
                raise _unknown(override, key, list(tree))
        else:
            raise SpecError(
                [Problem(f"{'.'.join(keys[:depth])} is a single value", f"{SOURCE} {override}")]
            )
        place.append(part)
        if is_last:
            tree[part] = new
        elif isinstance(tree, dict) and tree.get(key) is None:
            tree[key] = {}
        if not is_last:
            tree = tree[part]
    return tuple(place)


def _unknown(override: str, key: str, valid: list[str]) -> SpecError:
    hint = nearest(key, valid) or f"; valid here: {', '.join(valid)}"
    return SpecError([Problem(f"there is no '{key}'{hint}", f"{SOURCE} {override}")])
