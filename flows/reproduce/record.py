"""What a reproduction found out, as it is kept: runs/<id>/reproductions/<ulid>.json.

reproductions_of(find_run("latest"))[-1].is_reproduced
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError

from flows.compare.surroundings import Difference
from flows.experiment import RunFolder
from tasks.errors import StoreError
from tasks.spec import Frozen
from tasks.store.failures import in_words
from tasks.store.files import write_durably


class Expectation(StrEnum):
    """How alike the results of a step should be."""

    BITS = "bit for bit"  # the same computation on the same kind of machine
    NUMBERS = "numbers within tolerance"  # floating point elsewhere, or in another order
    MEASURED = "timings within tolerance"  # of the world


class Likeness(StrEnum):
    """How alike they were."""

    IDENTICAL = "identical"
    WITHIN = "within tolerance"
    OUTSIDE = "outside"
    UNDECIDED = "undecided"  # what was measured is too noisy to tell
    FOLLOWS = "follows"  # it only passes on what its inputs, which differ, brought
    FAILED = "failed"  # it had a result then, and has none now
    UNKNOWN = "unknown"  # what it found then can no longer be read

    @property
    def is_good(self) -> bool:
        return self in (Likeness.IDENTICAL, Likeness.WITHIN, Likeness.FOLLOWS)


class NumberCheck(Frozen):
    """One number, then and now."""

    name: str = Field(description="Where it stands in the result.")
    before: float | None = Field(description="As recorded; absent where it was not there.")
    now: float | None = Field(description="As it came out; absent where it is not there.")
    tolerance: float = Field(ge=0, description="Share by which it may differ; 0 is not at all.")
    is_within: bool = Field(description="Whether it is shown not to differ by more.")
    is_undecided: bool = Field(default=False, description="Whether noise leaves that open.")
    reason: str | None = Field(default=None, description="Why it is taken as it is.")

    @property
    def ratio(self) -> float | None:
        """now / before, where that is a number."""
        if self.before is None or self.now is None or self.before == 0:
            return None
        return self.now / self.before


class ArtifactCheck(Frozen):
    """One artifact, then and now."""

    name: str = Field(description="Where it stands in the result.")
    before: str | None = Field(description="Digest as recorded.")
    now: str | None = Field(description="Digest as it came out.")
    files: tuple[str, ...] = Field(default=(), description="Files of a folder that differ.")

    @property
    def is_identical(self) -> bool:
        return self.before == self.now


class StepReproduction(Frozen):
    """One step, then and now."""

    kind: str = Field(description="Kind of the step.")
    expectation: Expectation = Field(description="How alike it should have been.")
    verdict: Likeness = Field(description="How alike it was.")
    reasons: tuple[str, ...] = Field(default=(), description="Why, in words.")
    numbers: tuple[NumberCheck, ...] = Field(default=(), description="Every number.")
    artifacts: tuple[ArtifactCheck, ...] = Field(default=(), description="Every artifact.")
    seconds_before: float | None = Field(default=None, description="Its body's time then.")
    seconds_now: float | None = Field(default=None, description="Its body's time now.")


class Reproduction(Frozen):
    """A run, done again."""

    id: str = Field(description="ULID.")
    run: str = Field(description="The run that was done again.")
    started: datetime = Field(description="UTC.")
    seconds: float = Field(ge=0, description="Wall time.")
    only: str | None = Field(description="The step that was asked for; null is all.")
    changes: tuple[str, ...] = Field(description="Inputs that differ, and were let pass.")
    surroundings: tuple[Difference, ...] = Field(description="Circumstances that differ.")
    code_changed: tuple[str, ...] = Field(
        default=(), description="Steps whose code has another fingerprint since."
    )
    steps: dict[str, StepReproduction] = Field(description="In the order of the run.")
    store: str | None = Field(default=None, description="Where its store was kept.")

    @property
    def is_reproduced(self) -> bool:
        """Whether every step came out as it should."""
        return all(step.verdict.is_good for step in self.steps.values())


def folder_of(run: RunFolder) -> Path:
    """Where the reproductions of a run are kept."""
    return run.path / "reproductions"


def logs_of(run: RunFolder, reproduction: str) -> Path:
    """Where the logs of what failed in one of them are kept."""
    return folder_of(run) / reproduction


def keep(run: RunFolder, found: Reproduction) -> Path:
    """Write it down beside the run; returns the file."""
    path = folder_of(run) / f"{found.id}.json"
    with in_words("write", path, run.path):
        write_durably(path, found.model_dump_json(indent=1).encode())
    return path


def reproductions_of(run: RunFolder) -> list[Reproduction]:
    """All that were kept, oldest first; `StoreError` names one that is damaged."""
    return [_read(path) for path in _files(folder_of(run))]


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else ()


def _read(path: Path) -> Reproduction:
    try:
        return Reproduction.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{path} is damaged: {error.errors()[0]['msg']}") from error
