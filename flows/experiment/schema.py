"""The parts of an experiment file, once its references are resolved.

    experiment: {name: quickstart, hypothesis: "W8A8 keeps 99% of accuracy"}
    steps:
      train: {kind: train, placement: {timeout_s: 600}, tokens: "${steps.prepare.train_tokens}"}
    deliverables:
      - {type: model, artifact: "${steps.train.model}", validation: exists_and_loadable}
    analysis: {baseline: base}                # short for a step `analysis` of kind analyze

Also accepted: `training: {script, config}`, short for a step `training` of kind command, and
`pipeline: {standard: pipeline_w4a16, …}`, which pipelines.py writes out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field, JsonValue

from flows.experiment.deliverables import DEFAULT_VALIDATION
from tasks.documents import Document, Location, Mark
from tasks.errors import Problem, SpecError, nearest
from tasks.spec import Frozen, Placement

STEP_NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
MAX_NAME_CHARACTERS = 100
TOP_LEVEL = ("experiment", "steps", "pipeline", "training", "deliverables", "analysis", "metadata")
OTHER_KINDS = {"campaign": "a campaign", "plan": "a plan"}
RESERVED = ("kind", "placement", "after")


class Header(Frozen):
    """What an experiment is about; nothing here changes what is computed."""

    name: str = Field(
        default="unnamed",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$",
        max_length=MAX_NAME_CHARACTERS,
        description="Name of the experiment; the file's where it is left out.",
    )
    description: str = Field(default="", description="What is done.")
    hypothesis: str = Field(default="", description="What is expected, and may turn out false.")
    research_question: str = Field(default="", description="What is asked.")
    parent: str | None = Field(
        default=None, description="Id of the run that this one follows; else the last of the file."
    )
    tags: tuple[str, ...] = Field(default=(), description="Labels.")
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict, description="Whatever else should be kept with the run."
    )


class StepHead(Frozen):
    """The reserved words of a step."""

    kind: str = Field(description="What kind of step: prepare, train, compress, …")
    placement: Placement = Field(default_factory=Placement, description="Where and how it runs.")
    after: tuple[str, ...] = Field(
        default=(), description="Steps that it waits for beside those whose results it takes."
    )


def refuse_other_files(document: Document) -> None:
    """Raise `SpecError` unless the top-level keys are those of an experiment."""
    value = document.value
    if not isinstance(value, dict) or not value:
        raise SpecError([document.problem((), "not an experiment file: it holds no mapping")])
    for key, what in OTHER_KINDS.items():
        if key in value:
            message = f"not an experiment file: it is {what} ('{key}' at the top)"
            raise SpecError([document.problem((key,), message)])
    problems = [
        document.problem((key,), f"unknown key{nearest(key, TOP_LEVEL) or _valid(TOP_LEVEL)}")
        for key in value
        if key not in TOP_LEVEL
    ]
    if not {"steps", "pipeline", "training"} & set(value):
        problems.append(document.problem((), "not an experiment file: it has no 'steps'"))
    if problems:
        raise SpecError(problems)


def expand(document: Document) -> Document:
    """The file with its short forms written out: `training`, `analysis`, top-level `metadata`."""
    tree = dict(document.value)
    moves: dict[Location, Location] = {}
    problems: list[Problem] = []
    steps = {} if tree.get("steps") is None else tree["steps"]
    if not isinstance(steps, dict):
        raise SpecError([document.problem(("steps",), "must be a mapping of names to steps")])
    steps = dict(steps)

    def take(key: str, kind: str) -> None:
        short = tree.pop(key, None)
        if short is None:
            return
        if not isinstance(short, dict):
            problems.append(document.problem((key,), "must be a mapping"))
        elif key in steps:
            problems.append(document.problem((key,), f"stands beside a step named '{key}'"))
        else:
            steps[key] = {"kind": kind, **short}
            moves[(key,)] = ("steps", key)

    has_training = "training" in tree
    take("training", "command")
    take("analysis", "analyze")
    if "metadata" in tree:
        written = tree.get("experiment")
        if written is None or isinstance(written, dict):  # else it is refused for its own sake
            header = dict(written or {})
            header.setdefault("metadata", tree["metadata"])
            tree["experiment"] = header
            moves[("metadata",)] = ("experiment", "metadata")
        del tree["metadata"]
    if has_training and isinstance(tree.get("deliverables"), list):
        tree["deliverables"] = [_from_training(item) for item in tree["deliverables"]]
    if problems:
        raise SpecError(problems)
    marks: dict[Location, Mark] = {}
    for location, mark in document.marks.items():
        old = next((old for old in moves if location[: len(old)] == old), None)
        marks[(*moves[old], *location[len(old) :]) if old else location] = mark
    return replace(document, value={**tree, "steps": steps}, marks=marks)


def _from_training(item: Any) -> Any:
    """A path of the short form lies in the folder that the script ran in."""
    if not isinstance(item, dict) or "path" not in item or "artifact" in item:
        return item
    return {"artifact": "${steps.training.outputs}", **item}


def with_default_validation(items: Any) -> Any:
    """Deliverables that say no validation only have to exist."""
    if not isinstance(items, list):
        return items
    return [
        {"validation": DEFAULT_VALIDATION, **item} if isinstance(item, dict) else item
        for item in items
    ]


def _valid(names: tuple[str, ...]) -> str:
    return f"; valid here: {', '.join(names)}"
