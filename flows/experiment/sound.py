"""An experiment that is known to be sound: its steps in order, each with its references to others.

    experiment = load_experiment(Path("quickstart.yaml"))       # see flows.experiment.loading
    experiment.steps["train"].spec({"prepare": prepare_result})

What only results can tell is checked when they are there: then a spec may turn out to be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.experiment.deliverables import Deliverable
from flows.experiment.references import fill
from flows.experiment.schema import Header
from tasks.documents import Document, Location
from tasks.errors import SpecError
from tasks.problems import problems_from
from tasks.spec import Placement, Result, Spec
from tasks.step import Step


@dataclass(frozen=True)
class ExperimentStep:
    """One step of an experiment: its kind, where it runs, and its fields with their references."""

    name: str
    kind: str
    step: Step[Any, Any]
    placement: Placement
    fields: Mapping[str, Any]
    upstream: tuple[str, ...]
    document: Document = field(repr=False)

    def spec(self, results: Mapping[str, Result]) -> Spec:
        """The spec, once the steps that it refers to have results; raises `SpecError`."""
        place: Location = ("steps", self.name)
        try:
            fields = fill(self.fields, results)
            spec: Spec = self.step.spec_type.model_validate(
                fields, context={"base_dir": self.document.folder}
            )
        except ValidationError as error:
            raise SpecError(
                problems_from(error, self.document, place, self.step.spec_type)
            ) from error
        except ValueError as error:
            raise SpecError([self.document.problem(place, str(error))]) from error
        return spec


@dataclass(frozen=True)
class Experiment:
    """A sound experiment; `steps` are in an order in which they can run."""

    header: Header
    steps: Mapping[str, ExperimentStep]
    deliverables: tuple[Deliverable, ...]
    document: Document = field(repr=False)
    overrides: tuple[str, ...] = ()
    resolved: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path:
        return self.document.path
