"""A pipeline by name in an experiment file, written out as steps before anything else is read.

    pipeline:
      standard: pipeline_w4a16                     # or a path, or {parameters, steps} themselves
      model: ${steps.data.model}                   # what its steps call ${pipeline.model}
      calibration: ${steps.data.calibration}
      parameters: {group_size: 64}                 # others keep their defaults
      steps: {openllm: {mirror: mirror}}           # fields that its steps leave open

becomes the steps `compress` and `openllm`. Whatever is wrong with a value is told where it was
written: in the file, or in the standard's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from tasks.documents import Document, Location, Mark, dotted
from tasks.errors import Problem, SpecError, nearest
from tasks.spec import Frozen
from tasks.standards import StandardKind
from tasks.standards.use import Content, resolve

KEY = "pipeline"
PLACE: Location = (KEY,)
OWN_KEYS = ("standard", "parameters", "steps")
HOLE = re.compile(r"\$\{pipeline\.([A-Za-z0-9_.-]+)\}")


class Parameter(Frozen):
    """What a pipeline lets its user choose."""

    default: JsonValue = Field(description="Value that it has when nobody chooses.")
    feeds_recipe: bool = Field(description="Changes the recipe, rather than how it is applied.")


class Pipeline(Frozen):
    """The content of a pipeline standard."""

    parameters: dict[str, Parameter] = Field(
        default_factory=dict, description="What may be chosen; steps say ${pipeline.parameters.X}."
    )
    steps: dict[str, dict[str, JsonValue]] = Field(
        min_length=1, description="Steps as an experiment has them; ${pipeline.X} is an input."
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a user has to bring: every ${pipeline.X} that is no parameter."""
        names = (name for _, name in _holes(self.steps) if not name.startswith("parameters."))
        return tuple(dict.fromkeys(names))


def expand_pipeline(document: Document) -> Document:
    """The file with the steps of its `pipeline` among its own; raises `SpecError`."""
    given = document.get(PLACE)
    if given is None:
        return document
    if not isinstance(given, dict):
        raise SpecError([document.problem(PLACE, "must be a mapping with 'standard'")])
    content, pipeline = _read(document, given)
    problems = list(_problems(document, given, pipeline))
    if problems:
        raise SpecError(problems)
    return _Expansion(document, given, content, pipeline).document()


def _read(document: Document, given: Mapping[str, Any]) -> tuple[Content, Pipeline]:
    place: Location = (*PLACE, "standard")
    if "standard" not in given:
        raise SpecError([document.problem(PLACE, "needs 'standard': a name, a path or a mapping")])
    try:
        content = resolve(StandardKind.PIPELINE, given["standard"], document.folder)
        return content, Pipeline.model_validate(content.values)
    except ValidationError as error:
        raise SpecError(
            Problem(item["msg"], content.where(dotted(item["loc"])), key=dotted(item["loc"]))
            for item in error.errors()
        ) from error
    except (SpecError, ValueError) as error:
        raise SpecError([document.problem(place, str(error))]) from error


def _problems(
    document: Document, given: Mapping[str, Any], pipeline: Pipeline
) -> Iterator[Problem]:
    valid = (*OWN_KEYS, *pipeline.inputs)
    for key in given:
        if key not in valid:
            hint = nearest(key, valid) or f"; valid here: {', '.join(valid)}"
            yield document.problem((*PLACE, key), f"unknown key{hint}")
    for name in pipeline.inputs:
        if name not in given:
            yield document.problem(PLACE, f"needs '{name}'")
    for part, known in (("parameters", pipeline.parameters), ("steps", pipeline.steps)):
        chosen = given.get(part) or {}
        if not isinstance(chosen, dict):
            yield document.problem((*PLACE, part), "must be a mapping")
            continue
        for name, value in chosen.items():
            place: Location = (*PLACE, part, name)
            if name not in known:
                hint = nearest(name, known) or f"; there are {', '.join(known)}"
                yield document.problem(place, f"the pipeline has none of that name{hint}")
            elif part == "steps" and not isinstance(value, dict):
                yield document.problem(place, "must be a mapping")
    own = document.get(("steps",))
    for name in pipeline.steps:
        if isinstance(own, dict) and name in own:
            message = "the pipeline has a step of that name; give this one another"
            yield document.problem(("steps", name), message)


class _Expansion:
    """Puts the steps together, with the place of each of their values."""

    def __init__(
        self, document: Document, given: Mapping[str, Any], content: Content, pipeline: Pipeline
    ):
        self._document = document
        self._given = given
        self._content = content
        self._pipeline = pipeline
        self._marks: dict[Location, Mark] = {}
        self._problems: list[Problem] = []

    def document(self) -> Document:
        steps = {name: self._step(name) for name in self._pipeline.steps}
        if self._problems:
            raise SpecError(self._problems)
        tree = {key: value for key, value in self._document.value.items() if key != KEY}
        tree["steps"] = {**(tree.get("steps") or {}), **steps}
        marks = {
            location: mark
            for location, mark in self._document.marks.items()
            if location[:1] != PLACE
        }
        return replace(self._document, value=tree, marks={**marks, **self._marks})

    def _step(self, name: str) -> dict[str, Any]:
        standard = self._pipeline.steps[name]
        own: dict[str, Any] = (self._given.get("steps") or {}).get(name, {})
        self._mark(("steps", name), self._place_in_standard(f"steps.{name}"))
        fields = {}
        for key, value in standard.items():
            place: Location = ("steps", name, key)
            self._mark(place, self._place_in_standard(f"steps.{name}.{key}"))
            fields[key] = self._filled(value, place)
        for key, value in own.items():
            place = (*PLACE, "steps", name, key)
            if key in fields and fields[key] != value:
                where = self._content.where(f"steps.{name}.{key}")
                message = f"{value} here, {fields[key]} in {where}: leave this one out"
                self._problems.append(self._document.problem(place, message))
            self._take(place, ("steps", name, key))
            fields[key] = value
        return fields

    def _filled(self, value: Any, place: Location) -> Any:
        """The value with what the user brought and chose in its holes."""
        if isinstance(value, dict):
            return {key: self._filled(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, (*place, index)) for index, item in enumerate(value)]
        hole = HOLE.fullmatch(value) if isinstance(value, str) else None
        if hole is None:
            return value
        group, _, name = hole[1].rpartition(".")
        if group != "parameters":
            self._take((*PLACE, hole[1]), place)
            return self._given[hole[1]]
        chosen = self._given.get("parameters") or {}
        if name in chosen:
            self._take((*PLACE, "parameters", name), place)
            return chosen[name]
        self._mark(place, self._place_in_standard(f"parameters.{name}.default"))
        return self._pipeline.parameters[name].default

    def _take(self, source: Location, target: Location) -> None:
        """Marks of the user's file, for a value that stands elsewhere now."""
        for location, mark in self._document.marks.items():
            if location[: len(source)] == source:
                self._marks[(*target, *location[len(source) :])] = mark

    def _place_in_standard(self, key: str) -> Mark | None:
        return self._content.marks.get(key)

    def _mark(self, place: Location, mark: Mark | None) -> None:
        if mark is None:  # the standard is written inline
            mark = self._document.mark((*PLACE, "standard"))
        self._marks[place] = mark


def _holes(tree: Any) -> Iterator[tuple[str, str]]:
    """Every ${pipeline.X} of a tree, whole and its X."""
    if isinstance(tree, str):
        yield from ((match[0], match[1]) for match in HOLE.finditer(tree))
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _holes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _holes(value)
