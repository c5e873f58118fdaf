"""Named, versioned standards: how the field compresses, evaluates, benchmarks, and in what order.

Standards ship inside the package, below a folder for their kind. A lab adds its own by dropping
`<kind>/<name>.yaml` into the folder that the setting `standards_folder` names; a name that ships
already is refused, as two meanings of one name would never be noticed.

    load(StandardKind.COMPRESSION, "w4a16").content["modifiers"]
    names(StandardKind.COMPRESSION)                             # ('awq_w4a16', 'fp8_dynamic', …)

This package knows nothing of what a standard's content means: the step that uses it checks that,
and takes the content, not the name, into its spec.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from tasks.documents import load_yaml
from tasks.errors import Problem, SpecError, nearest
from tasks.problems import problems_from
from tasks.settings import settings
from tasks.spec import Frozen

SHIPPED = Path(__file__).parent
STANDARD_NAME = r"^[a-z0-9][a-z0-9_]*$"


class StandardKind(StrEnum):
    """What a standard is for; also the name of the folder it lies in."""

    BENCHMARKING = "benchmarking"
    COMPRESSION = "compression"
    EVALUATION = "evaluation"
    PIPELINE = "pipeline"


class Standard(Frozen):
    """One standard as its YAML file spells it, and where that file lies."""

    kind: StandardKind = Field(description="What it is for.")
    name: str = Field(pattern=STANDARD_NAME, description="The file's name, no suffix.")
    version: int = Field(ge=1, description="Raised whenever the content changes.")
    description: str = Field(min_length=1, description="What it does, in one or two sentences.")
    source: str = Field(min_length=1, description="Where its numbers come from.")
    content: dict[str, Any] = Field(description="What the step that uses it reads.")
    path: Path = Field(description="The YAML file.")


def load(kind: StandardKind, name: str) -> Standard:
    """The standard of that name; `SpecError` gives the nearest one where there is none."""
    files = _files(kind)
    if name not in files:
        raise SpecError(
            f"there is no {kind} standard named '{name}'{nearest(name, files)}; "
            f"there are {', '.join(sorted(files))}"
        )
    return _read(kind, files[name])


def names(kind: StandardKind) -> tuple[str, ...]:
    """Every standard of a kind, shipped and the lab's own, sorted."""
    return tuple(sorted(_files(kind)))


def every_standard() -> tuple[Standard, ...]:
    """All standards of all kinds, for `labwright standards list`."""
    return tuple(load(kind, name) for kind in StandardKind for name in names(kind))


def find(name: str) -> tuple[Standard, ...]:
    """The standards of that name, whatever their kind, for `labwright standards show NAME`."""
    found = tuple(load(kind, name) for kind in StandardKind if name in names(kind))
    if not found:
        known = sorted({known for kind in StandardKind for known in names(kind)})
        raise SpecError(
            f"there is no standard named '{name}'{nearest(name, known)}; "
            f"there are {', '.join(known)}"
        )
    return found


def _files(kind: StandardKind) -> dict[str, Path]:
    files = {path.stem: path for path in (SHIPPED / kind).glob("*.yaml")}
    own_folder = settings().standards_folder
    if own_folder is None:
        return files
    if not own_folder.is_dir():
        raise SpecError([Problem(f"no such folder: {own_folder}", source="standards_folder")])
    for path in (own_folder / kind).glob("*.yaml"):
        if path.stem in files:
            message = f"a {kind} standard named '{path.stem}' ships already; rename this file"
            raise SpecError([Problem(message, source=str(path))])
        files[path.stem] = path
    return files


def load_file(kind: StandardKind, path: Path) -> Standard:
    """The standard in a YAML file of the user's; `SpecError` says what is wrong with it."""
    return _read(kind, path)


def _read(kind: StandardKind, path: Path) -> Standard:
    document = load_yaml(path)
    if not isinstance(document.value, dict):
        raise SpecError([document.problem((), "a standard is a mapping")])
    if document.value.get("name") != path.stem:
        message = f"must be the file's name, '{path.stem}'"
        raise SpecError([document.problem(("name",), message)])
    fields = {**document.value, "kind": kind, "path": path}
    try:
        return Standard.model_validate(fields)
    except ValidationError as error:
        raise SpecError(problems_from(error, document, (), Standard)) from error
