"""Which kind of artifact a field takes or gives, where its type declares it.

    kind_at(TrainSpec, ("model",))          # ArtifactKind.MODEL
    kind_at(CommandSpec, ("inputs", "x"))   # None: a script may take anything

A field declares it as `Annotated[Input, ArtifactKind.MODEL]`. A reference is refused where both
sides say a kind, and not the same; what only one side says is the step's own matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from flows.experiment.placeholders import types_inside
from flows.experiment.references import StepReference
from tasks.annotations import is_model, members_of
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.documents import Location


def kind_at(model: type[BaseModel], path: Location) -> ArtifactKind | None:
    """The kind that is declared at a place of a spec or of a result; None where none is, or two."""
    if not path:
        return None
    *above, last = path
    holders: list[Any] = [model]
    for part in above:
        holders = [
            member
            for holder in holders
            for annotation in types_inside(holder, part)
            for member in members_of(annotation)
        ]
    found = {
        kind
        for holder in holders
        if is_model(holder) and (info := holder.model_fields.get(str(last)))
        for kind in (*_kinds(info.metadata), *_declared(info.annotation))
    }
    return found.pop() if len(found) == 1 else None


def kind_problem(
    wanted: ArtifactKind | None, reference: StepReference, result_type: type[BaseModel]
) -> str | None:
    """Why the reference cannot stand where `wanted` is taken, and which of its step's could."""
    found = kind_at(result_type, reference.path)
    if wanted is None or found is None or wanted is found:
        return None
    fitting = [
        str(StepReference(reference.step, (name,)))
        for name in result_type.model_fields
        if kind_at(result_type, (name,)) is wanted
    ]
    hint = f"; did you mean {' or '.join(fitting)}?" if fitting else ""
    return f"{reference} is an artifact of kind {found}, here belongs one of kind {wanted}{hint}"


def artifact_problem(
    reference: StepReference, annotation: Any, result_type: type[BaseModel]
) -> str | None:
    """Why the reference is no artifact, and which are."""
    members = list(members_of(annotation))
    if ArtifactRef in members or Any in members:
        return None
    names = [
        str(StepReference(reference.step, (name,)))
        for name, info in result_type.model_fields.items()
        if ArtifactRef in members_of(info.annotation)
    ]
    there = f"; artifacts of its step: {', '.join(names)}" if names else ""
    return f"{reference} is no artifact{there}"


def _declared(annotation: Any) -> Iterator[ArtifactKind]:
    """The kinds in an annotation such as `Annotated[Input, ArtifactKind.MODEL] | None`."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(annotation.__metadata__)
    for inner in get_args(annotation):
        yield from _declared(inner)


def _kinds(metadata: Iterable[Any]) -> Iterator[ArtifactKind]:
    yield from (item for item in metadata if isinstance(item, ArtifactKind))
