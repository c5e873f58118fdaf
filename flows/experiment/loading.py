"""From a file to an experiment that is known to be sound, before anything runs.

    experiment = load_experiment(Path("quickstart.yaml"), ["steps.train.num_steps=10"])

All problems of a file come at once: unknown keys, wrong types, references to nothing, cycles, specs
that cannot hold whatever the steps before them find.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.experiment.deliverables import (
    ARTIFACT_FIELDS,
    SAMPLES_FIELDS,
    Deliverable,
    Deliverables,
)
from flows.experiment.kinds import artifact_problem, kind_at, kind_problem
from flows.experiment.overrides import apply_overrides
from flows.experiment.pipelines import expand_pipeline
from flows.experiment.placeholders import (
    annotation_at,
    known_problems,
    may_stand_in_text,
    with_placeholders,
)
from flows.experiment.references import (
    UNRESOLVED,
    Interpolation,
    StepReference,
    Template,
    references_in,
    steps_in,
)
from flows.experiment.schema import (
    MAX_NAME_CHARACTERS,
    RESERVED,
    STEP_NAME,
    Header,
    StepHead,
    expand,
    refuse_other_files,
    with_default_validation,
)
from flows.experiment.sound import Experiment, ExperimentStep
from tasks.artifacts import ArtifactKind, PackageFiles
from tasks.documents import Document, Location, load_yaml
from tasks.errors import Problem, SpecError, nearest
from tasks.problems import problems_from
from tasks.registry import STEPS, step_of, unknown_kind
from tasks.step import Step
from tasks.store.inputs import package_files


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read, resolve and check a file; raises `SpecError` with every problem."""
    return compile_experiment(load_yaml(path.absolute()), tuple(overrides))


def compile_experiment(document: Document, overrides: tuple[str, ...] = ()) -> Experiment:
    """The same for a document that was read already."""
    refuse_other_files(document)
    document = expand(expand_pipeline(apply_overrides(document, overrides)))
    return _Compiler(document, overrides).experiment()


class _Compiler:
    """Collects what is wrong while it puts an experiment together."""

    def __init__(self, document: Document, overrides: tuple[str, ...]):
        self._document = document
        self._overrides = overrides
        self._problems: list[Problem] = []
        self._kinds: dict[str, Step[Any, Any]] = {}

    def experiment(self) -> Experiment:
        self._find_kinds()
        interpolation = Interpolation(self._document, self._result_names)
        tree = interpolation.resolve()
        self._problems += interpolation.problems
        header = self._header(tree)
        steps = {
            name: step
            for name in self._kinds
            if (step := self._step(name, tree["steps"][name])) is not None
        }
        deliverables = self._deliverables(tree.get("deliverables"))
        order = self._order(steps)
        if self._problems or header is None:
            raise SpecError(dict.fromkeys(self._problems))
        return Experiment(
            header,
            {name: steps[name] for name in order},
            deliverables,
            self._document,
            self._overrides,
            _as_text(tree),
        )

    def _refuse(self, place: Location, message: str) -> None:
        self._problems.append(self._document.problem(place, message))

    def _find_kinds(self) -> None:
        steps = self._document.value["steps"]
        if not steps:
            self._refuse(("steps",), "has no steps")
        for name, fields in steps.items():
            if not re.fullmatch(STEP_NAME, name):
                self._refuse(("steps", name), "names are letters, digits, '_' and '-'")
            elif not isinstance(fields, dict):
                self._refuse(("steps", name), "must be a mapping with 'kind' and the step's fields")
            elif "kind" not in fields:
                self._refuse(("steps", name, "kind"), f"is required: one of {', '.join(STEPS)}")
            elif not isinstance(fields["kind"], str) or fields["kind"] not in STEPS:
                self._refuse(("steps", name, "kind"), unknown_kind(str(fields["kind"])))
            else:
                self._kinds[name] = step_of(fields["kind"])

    def _result_names(self, name: str) -> Collection[str] | None:
        if name in self._kinds:
            return list(self._kinds[name].result_type.model_fields)
        # A step that is refused for its own sake is not blamed for what refers to it.
        return None if name in self._document.value["steps"] else ()

    def _header(self, tree: Mapping[str, Any]) -> Header | None:
        written = tree.get("experiment")
        for place, reference in references_in(written):
            if reference != UNRESOLVED:
                message = f"{reference} is not known before the steps have run"
                self._refuse(("experiment", *place), message)
            return None
        try:
            return Header.model_validate(self._with_name({} if written is None else written))
        except ValidationError as error:
            self._problems += problems_from(error, self._document, ("experiment",), Header)
            return None

    def _with_name(self, header: Any) -> Any:
        """An experiment that gives itself no name has that of its file."""
        stem = re.sub(r"[^A-Za-z0-9_. -]", "_", self._document.path.stem).lstrip(". -")
        name = stem[:MAX_NAME_CHARACTERS]
        return {"name": name, **header} if name and isinstance(header, Mapping) else header

    def _step(self, name: str, fields: Mapping[str, Any]) -> ExperimentStep | None:
        place: Location = ("steps", name)
        step = self._kinds[name]
        head = {key: fields[key] for key in RESERVED if key in fields}
        own = {key: value for key, value in fields.items() if key not in RESERVED}
        try:
            parsed = StepHead.model_validate(head)
        except ValidationError as error:
            self._problems += problems_from(error, self._document, place, StepHead)
            return None
        self._check(step, own, place, self._types_of(own, place))
        self._check_after(parsed.after, place)
        upstream = tuple(dict.fromkeys((*steps_in(own), *parsed.after)))
        return ExperimentStep(
            name, parsed.kind, step, parsed.placement, own, upstream, self._document
        )

    def _check_after(self, names: tuple[str, ...], place: Location) -> None:
        steps = self._document.value["steps"]
        for index, name in enumerate(names):
            if name not in steps:
                known = nearest(name, steps) or f"; there are {', '.join(steps)}"
                self._refuse((*place, "after", index), f"there is no step '{name}'{known}")

    def _types_of(self, tree: Any, place: Location) -> dict[StepReference, Any]:
        """The type of each reference; anything for one that names nothing, which is refused."""
        known: dict[StepReference, Any] = {}
        for at, found in references_in(tree):
            for reference in found.parts if isinstance(found, Template) else (found,):
                if isinstance(reference, str):
                    continue
                known[reference] = Any
                if reference.step not in self._kinds:
                    continue
                result_type = self._kinds[reference.step].result_type
                try:
                    known[reference] = annotation_at(result_type, reference.path)
                except ValueError as error:
                    self._refuse((*place, *at), f"{reference} {error}")
                if isinstance(found, Template) and not may_stand_in_text(known[reference]):
                    message = f"{reference} is no text or number, and cannot stand within a text"
                    self._refuse((*place, *at), message)
        return known

    def _check(
        self,
        step: Step[Any, Any],
        fields: Mapping[str, Any],
        place: Location,
        known: Mapping[StepReference, Any],
    ) -> None:
        """Validate a spec with placeholders for what is not known yet."""
        for at, found in references_in(fields):
            self._check_kind(kind_at(step.spec_type, at), found, (*place, *at))
        try:
            spec = step.spec_type.model_validate(
                with_placeholders(fields, known), context={"base_dir": self._document.folder}
            )
        except ValidationError as error:
            self._problems += known_problems(
                error, self._document, place, step.spec_type, fields, known
            )
            return
        for at, wanted in _packages_in(spec):
            try:
                package_files(wanted)
            except ValueError as error:
                self._refuse((*place, *at), str(error))

    def _check_kind(
        self, wanted: ArtifactKind | None, found: StepReference | Template, place: Location
    ) -> None:
        """Refuse an artifact of one kind where another is taken."""
        if isinstance(found, StepReference) and found.step in self._kinds:
            problem = kind_problem(wanted, found, self._kinds[found.step].result_type)
            if problem:
                self._refuse(place, problem)

    def _check_artifacts(
        self, index: int, promise: Deliverable, known: Mapping[StepReference, Any]
    ) -> None:
        """Refuse what is no artifact where a deliverable takes one."""
        for field in ARTIFACT_FIELDS:
            reference = getattr(promise, field, None)
            if reference is None or reference.step not in self._kinds:
                continue
            place: Location = ("deliverables", index, field)
            result_type = self._kinds[reference.step].result_type
            problem = artifact_problem(reference, known[reference], result_type)
            if problem:
                self._refuse(place, problem)
            elif field in SAMPLES_FIELDS:
                self._check_kind(ArtifactKind.SAMPLES, reference, place)

    def _deliverables(self, written: Any) -> tuple[Deliverable, ...]:
        if written is None:
            return ()
        known = self._types_of(written, ("deliverables",))
        try:
            found = Deliverables.model_validate({"deliverables": with_default_validation(written)})
        except ValidationError as error:
            self._problems += problems_from(error, self._document, (), Deliverables)
            return ()
        first: dict[str, int] = {}
        for index, deliverable in enumerate(found.deliverables):
            self._check_artifacts(index, deliverable, known)
            if first.setdefault(deliverable.label, index) != index:
                message = f"a deliverable named '{deliverable.label}' exists; give this one a name"
                self._refuse(("deliverables", index), message)
        return found.deliverables

    def _order(self, steps: Mapping[str, ExperimentStep]) -> tuple[str, ...]:
        """A topological order that keeps the file's where it can; names a cycle by its path."""
        sorter = graphlib.TopologicalSorter({name: step.upstream for name, step in steps.items()})
        try:
            return tuple(name for name in sorter.static_order() if name in steps)
        except graphlib.CycleError as error:
            cycle = [str(name) for name in reversed(error.args[1])]
            self._refuse(("steps", cycle[0]), f"steps wait for each other: {' -> '.join(cycle)}")
            return ()


def _packages_in(tree: Any) -> Iterator[tuple[Location, PackageFiles]]:
    """Every input that a package has to bring, with its place in a spec."""
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(tree, PackageFiles):
        yield (), tree
    elif isinstance(tree, BaseModel):
        parts = ((name, getattr(tree, name, None)) for name in type(tree).model_fields)
    elif isinstance(tree, Mapping):
        parts = ((str(key), value) for key, value in tree.items())
    elif isinstance(tree, list | tuple):
        parts = enumerate(tree)
    for part, value in parts:
        yield from (((part, *at), found) for at, found in _packages_in(value))


def _as_text(tree: Any) -> Any:
    """The resolved file with references to results as text, for the run's folder and lineage."""
    if isinstance(tree, StepReference | Template):
        return str(tree)
    if isinstance(tree, Mapping):
        return {key: _as_text(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_text(value) for value in tree]
    return tree
