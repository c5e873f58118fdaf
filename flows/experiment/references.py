"""`${…}` in a file: other values of the file, environment variables, results of steps.

    ${experiment.metadata.group_size}    a value of the same file, of any type
    ${env:HF_HOME}                       an environment variable, text
    ${steps.train.model}                 a field of a step's result; known once the step has run
    $${not_a_reference}                  the text ${not_a_reference}

A value that is one reference keeps the type of what it names; within a text only scalars may stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.documents import Document, Location, dotted
from tasks.errors import Problem, nearest

REFERENCE = re.compile(r"\$?\$\{([^{}]*)\}")
Scalar = str | int | float | bool

ResultNames = Callable[[str], Collection[str] | None]
"""The fields of a step's result by the step's name; None where its kind is not known."""


@dataclass(frozen=True)
class StepReference:
    """A part of a step's result: `${steps.<step>.<path>}`."""

    step: str
    path: Location

    def __str__(self) -> str:
        return f"${{steps.{self.step}.{dotted(self.path)}}}"

    def value(self, results: Mapping[str, Any]) -> Any:
        """What the results hold there; raises ValueError in words where there is nothing."""
        value = results[self.step]
        for part in self.path:
            try:
                if isinstance(value, Mapping | list | tuple):
                    value = value[part]  # type: ignore[index]
                else:
                    value = getattr(value, str(part))
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise ValueError(f"{self} names '{part}', which the result lacks") from error
        return value


@dataclass(frozen=True)
class Template:
    """A text with results of steps in it."""

    parts: tuple[str | StepReference, ...]

    def __str__(self) -> str:
        return "".join(str(part) for part in self.parts)

    def value(self, results: Mapping[str, Any]) -> str:
        """The text; raises ValueError where a part is not a scalar."""
        texts = []
        for part in self.parts:
            found = part if isinstance(part, str) else part.value(results)
            if not isinstance(found, Scalar):
                raise ValueError(f"{part} is no text or number, and cannot stand within a text")
            texts.append(str(found))
        return "".join(texts)


UNRESOLVED = StepReference("", ())
"""Stands where a reference names nothing, so that everything else is still checked."""


def references_in(tree: Any) -> Iterator[tuple[Location, StepReference | Template]]:
    """Every reference to a result that is left in a tree, with its place."""
    if isinstance(tree, StepReference | Template):
        yield (), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from (((key, *place), found) for place, found in references_in(value))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from (((index, *place), found) for place, found in references_in(value))


def steps_in(tree: Any) -> tuple[str, ...]:
    """The steps whose results a tree needs, each once, in the order of their appearance."""
    found: dict[str, None] = {}
    for _, reference in references_in(tree):
        parts = reference.parts if isinstance(reference, Template) else (reference,)
        found |= {
            part.step: None for part in parts if isinstance(part, StepReference) and part.step
        }
    return tuple(found)


def fill(tree: Any, results: Mapping[str, Any]) -> Any:
    """The tree with every reference replaced by what the results hold."""
    if isinstance(tree, StepReference | Template):
        return tree.value(results)
    if isinstance(tree, Mapping):
        return {key: fill(value, results) for key, value in tree.items()}
    if isinstance(tree, list):
        return [fill(value, results) for value in tree]
    return tree


class Interpolation:
    """Resolves what a file can know of itself; what steps will find out stays a reference."""

    def __init__(self, document: Document, result_names: ResultNames):
        self.problems: list[Problem] = []
        self._document = document
        self._result_names = result_names

    def resolve(self, location: Location = ()) -> Any:
        """The part of the document at `location` with its references resolved."""
        return self._resolve(self._document.get(location), (location,))

    def _resolve(self, value: Any, trail: tuple[Location, ...]) -> Any:
        """`trail` is where the value stands, after the references that were followed to it."""
        *followed, place = trail
        if isinstance(value, dict):
            return {k: self._resolve(v, (*followed, (*place, k))) for k, v in value.items()}
        if isinstance(value, list):
            return [self._resolve(v, (*followed, (*place, i))) for i, v in enumerate(value)]
        return self._text(value, trail) if isinstance(value, str) else value

    def _text(self, text: str, trail: tuple[Location, ...]) -> Any:
        parts: list[Any] = []
        end = 0
        for match in REFERENCE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[0].startswith("$$"):
                parts.append(match[0][1:])
                continue
            found = self._one(match[1].strip(), trail)
            if match[0] == text:
                return found
            parts += found.parts if isinstance(found, Template) else [found]
        parts.append(text[end:])
        for part in parts:
            if not isinstance(part, StepReference | Scalar):
                message = "a list, mapping or null cannot stand within a text"
                return self._refuse(trail[-1], message)
        if any(isinstance(part, StepReference) for part in parts):
            texts = (part if isinstance(part, StepReference) else str(part) for part in parts)
            return Template(tuple(part for part in texts if part != ""))
        return "".join(str(part) for part in parts)

    def _one(self, name: str, trail: tuple[Location, ...]) -> Any:
        if name.startswith("env:"):
            return self._variable(name.removeprefix("env:"), trail[-1])
        target: Location = tuple(int(p) if p.isdecimal() else p for p in name.split("."))
        names = self._result_names(str(target[1])) if target[0] == "steps" and target[2:] else ()
        if names is None or (target[2:] and target[2] in names):
            return StepReference(str(target[1]), target[2:])
        for index, followed in enumerate(trail):
            if followed[: len(target)] == target:
                path = [*(dotted(place) for place in trail[index:]), name]
                return self._refuse(trail[-1], f"refers to itself: {' -> '.join(path)}")
        absent = object()
        value = self._document.get(target, absent)
        if value is absent:
            return self._refuse(trail[-1], f"${{{name}}} names nothing{self._hint(target, names)}")
        return self._resolve(value, (*trail, target))

    def _variable(self, name: str, place: Location) -> str | StepReference:
        if name not in os.environ:
            message = f"${{env:{name}}}: the environment variable is not set"
            hint = nearest(name, os.environ, likeness=0.9) or f"; type: export {name}=VALUE"
            return self._refuse(place, f"{message}{hint}")
        return os.environ[name]

    def _hint(self, target: Location, result_names: Collection[str]) -> str:
        """The nearest name beside the first part that does not exist."""
        for length in range(1, len(target) + 1):
            absent = object()
            if self._document.get(target[:length], absent) is absent:
                beside = self._document.get(target[: length - 1])
                valid = list(result_names) if length > 2 else []
                valid += list(beside) if isinstance(beside, dict) else []
                close = nearest(str(target[length - 1]), valid)
                return close or (f"; valid here: {', '.join(valid)}" if valid else "")
        return ""

    def _refuse(self, place: Location, message: str) -> StepReference:
        problem = self._document.problem(place, message)
        if problem not in self.problems:
            self.problems.append(problem)
        return UNRESOLVED
