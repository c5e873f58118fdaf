"""What an experiment promises, as its file says it; `checks.py` finds out whether it was kept.

    deliverables:
      - {type: model, artifact: "${steps.train.model}", validation: exists_and_loadable}
      - {type: loss, validation: threshold, metric: "${steps.train.final_validation_loss}",
         operator: "<=", value: 6.0}

A file is an artifact of a step, a path within such an artifact, or one beside the experiment file.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    model_validator,
)

from flows.experiment.references import StepReference
from tasks.spec import Frozen


def _confined(text: str) -> str:
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or text.startswith("~"):
        raise ValueError("must be a relative path without '..'")
    return text


def _artifact(value: Any) -> Any:
    if not isinstance(value, StepReference):
        raise ValueError("must be a reference to a step's artifact, such as ${steps.train.model}")
    return value


Reference = InstanceOf[StepReference]
ArtifactReference = Annotated[Reference, BeforeValidator(_artifact)]
RelativePath = Annotated[str, AfterValidator(_confined)]
Number = Reference | float


class Operator(StrEnum):
    """How a metric is compared with its threshold."""

    ABOVE = ">"
    AT_LEAST = ">="
    BELOW = "<"
    AT_MOST = "<="
    EQUAL = "=="


class Promise(Frozen):
    """What every deliverable has."""

    name: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        description="Name of its own; the type where it is left out.",
    )
    type: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="What it is, in a word of yours."
    )
    description: str = Field(default="", description="What it is for.")

    @property
    def label(self) -> str:
        """The name by which it is reported; unique within a file."""
        return self.name or self.type


class FilePromise(Promise):
    """A deliverable that is a file or a folder."""

    artifact: ArtifactReference | None = Field(
        default=None, description="Artifact of a step, such as ${steps.train.model}."
    )
    path: RelativePath | None = Field(
        default=None, description="Path within the artifact, else beside the experiment file."
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self._needs_file() and self.artifact is None and self.path is None:
            raise ValueError("needs 'artifact' or 'path'")
        return self

    def _needs_file(self) -> bool:
        return True


class Exists(FilePromise):
    """The file is there and not empty, or the folder holds a file."""

    validation: Literal["exists"] = "exists"


class ContainsKeys(FilePromise):
    """A JSON or YAML file has the keys; `a.b` looks inside."""

    validation: Literal["contains_keys"]
    required_keys: tuple[str, ...] = Field(min_length=1, description="Keys; a.b looks inside.")


class ExistsAndLoadable(FilePromise):
    """The file can be read as what its name says it is."""

    validation: Literal["exists_and_loadable"]


class MatchesExpected(FilePromise):
    """The file equals what was expected."""

    validation: Literal["matches_expected"]
    expected: Any = Field(default=None, description="The expected value, of a JSON or YAML file.")
    expected_file: RelativePath | None = Field(
        default=None, description="File beside the experiment file that it must equal."
    )
    subset: bool = Field(
        default=False, description="Further keys of mappings are allowed in what was found."
    )
    relative_tolerance: float = Field(
        default=0.0, ge=0, description="Allowed relative difference between numbers."
    )

    @model_validator(mode="after")
    def _one_expectation(self) -> Self:
        if ("expected" in self.model_fields_set) == (self.expected_file is not None):
            raise ValueError("needs one of 'expected' and 'expected_file'")
        return self


class Threshold(FilePromise):
    """A number is on the right side of a limit."""

    validation: Literal["threshold"]
    metric: Number | str = Field(
        description="The number, or its dotted name in the JSON or YAML file."
    )
    operator: Operator = Field(description="One of >, >=, <, <=, ==.")
    value: Number = Field(description="The limit.")

    def _needs_file(self) -> bool:
        return isinstance(self.metric, str)


class ContainsSections(FilePromise):
    """A Markdown or HTML file has headings of these texts."""

    validation: Literal["contains_sections"]
    sections: tuple[str, ...] = Field(min_length=1, description="Texts of headings.")


class StatisticalTest(Promise):
    """The claim that a variant scores otherwise than the baseline, on the same items."""

    validation: Literal["statistical_test"]
    baseline: ArtifactReference = Field(description="Samples of the baseline's evaluation.")
    variant: ArtifactReference = Field(description="Samples of the variant's evaluation.")
    task: str | None = Field(default=None, description="Task; needed where there are several.")
    metric: str | None = Field(default=None, description="Metric; needed where there are several.")
    alternative: Literal["two-sided", "greater", "less"] = Field(
        default="two-sided", description="The claim: the variant's score is other, greater, less."
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="Probability of a false claim.")


Deliverable = Annotated[
    Exists
    | ContainsKeys
    | ExistsAndLoadable
    | MatchesExpected
    | Threshold
    | ContainsSections
    | StatisticalTest,
    Field(discriminator="validation"),
]
SAMPLES_FIELDS = ("baseline", "variant")
ARTIFACT_FIELDS = ("artifact", *SAMPLES_FIELDS)
DEFAULT_VALIDATION = "exists"


class Deliverables(Frozen):
    """The list in a file."""

    deliverables: tuple[Deliverable, ...]
