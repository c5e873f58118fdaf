"""What is known of a run, as its run.json says it.

RunReport.model_validate_json((folder / "run.json").read_bytes()).status
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from tasks.spec import Frozen
from tasks.verdict import GateResult


def counted(number: int, noun: str) -> str:
    """`1 step`, `2 steps`"""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class RunStatus(StrEnum):
    """How a run stands, or ended."""

    RUNNING = "running"
    DONE = "done"
    PARTIAL_SUCCESS = "partial_success"  # no step failed; a deliverable or a gate is unmet
    FAILED = "failed"
    CANCELLED = "cancelled"  # somebody stopped it
    KILLED = "killed"  # its process died without a word

    @property
    def exit_status(self) -> int:
        """0 for done, 1 for everything else."""
        return 0 if self is RunStatus.DONE else 1


class StepState(StrEnum):
    """How a step of a run stands, or ended."""

    WAITING = "waiting"
    RUNNING = "running"
    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # a step before it did not finish, or a gate was not passed
    CANCELLED = "cancelled"
    KILLED = "killed"

    @property
    def has_result(self) -> bool:
        return self in (StepState.CACHED, StepState.DONE)


class DeliverableState(StrEnum):
    """Whether a promise was kept."""

    DELIVERED = "delivered"
    MISSING = "missing"  # there is nothing to look at
    UNMET = "unmet"  # it is there, and is not what was promised


class StepReport(Frozen):
    """One step of a run."""

    kind: str = Field(description="Kind of the step.")
    state: StepState = Field(default=StepState.WAITING, description="How it stands.")
    identity: str | None = Field(default=None, description="Known once its inputs are.")
    seconds: float | None = Field(
        default=None, description="Wall time of its work in this run, waits left out."
    )
    error: str | None = Field(default=None, description="Why it did not finish.")
    upstream: tuple[str, ...] = Field(default=(), description="Steps whose results it takes.")


class DeliverableReport(Frozen):
    """One deliverable of a run."""

    type: str = Field(description="What it is, in the file's word.")
    validation: str = Field(description="How it was checked.")
    state: DeliverableState = Field(description="Whether the promise was kept.")
    problems: tuple[str, ...] = Field(default=(), description="Why it was not.")
    path: str | None = Field(default=None, description="Where it lies.")


class Modification(Frozen):
    """One difference between a run's file and its parent's."""

    parameter: str = Field(description="Dotted key.")
    before: JsonValue = Field(description="In the parent; null where it was absent.")
    after: JsonValue = Field(description="In this run; null where it is absent.")


class RunReport(Frozen):
    """A run from its first moment to its last."""

    id: str = Field(description="ULID.")
    name: str = Field(description="Name of the experiment.")
    status: RunStatus = Field(default=RunStatus.RUNNING, description="How it stands.")
    file: str = Field(description="The experiment file.")
    overrides: tuple[str, ...] = Field(default=(), description="Values given with --set.")
    header: dict[str, Any] = Field(default_factory=dict, description="Its `experiment` block.")
    started: datetime = Field(description="UTC.")
    ended: datetime | None = Field(default=None, description="UTC.")
    resumed: datetime | None = Field(
        default=None, description="UTC; when its last sitting began, if that is not its first."
    )
    seconds: float | None = Field(
        default=None, description="Wall time of its sittings that have ended, without the gaps."
    )
    parent: str | None = Field(default=None, description="The run that it follows.")
    modifications: tuple[Modification, ...] = Field(default=(), description="Against the parent.")
    steps: dict[str, StepReport] = Field(description="In the order of their dependencies.")
    deliverables: dict[str, DeliverableReport] = Field(
        default_factory=dict, description="By name; empty until the run has ended."
    )
    gates: dict[str, GateResult] = Field(
        default_factory=dict, description="By step; empty until the run has ended."
    )
    provenance: dict[str, Any] = Field(default_factory=dict, description="Code, host, command.")
    report: str | None = Field(default=None, description="Page of the analysis.")
    bundle: str | None = Field(default=None, description="Zip with everything worth keeping.")
    problems: tuple[str, ...] = Field(default=(), description="What went wrong outside of steps.")

    def summary(self) -> dict[str, Any]:
        """The object that `labwright run --json` prints."""
        steps = {
            name: step.model_dump(mode="json", include={"state", "identity", "seconds", "error"})
            for name, step in self.steps.items()
        }
        rest = self.model_dump(
            mode="json",
            include={
                *("id", "name", "status", "deliverables", "gates"),
                *("report", "bundle", "problems"),
            },
        )
        return {"id": rest.pop("id"), "status": rest.pop("status"), "steps": steps, **rest}


def status_of(
    report: RunReport,
    deliverables: Mapping[str, DeliverableReport],
    gates: Mapping[str, GateResult],
) -> RunStatus:
    """How a run ended, by its steps, deliverables and gates."""
    states = {step.state for step in report.steps.values()}
    if StepState.FAILED in states:
        return RunStatus.FAILED
    if not all(state.has_result or state is StepState.SKIPPED for state in states):
        return RunStatus.CANCELLED
    are_kept = all(kept.state is DeliverableState.DELIVERED for kept in deliverables.values())
    are_passed = all(gate.passed for gate in gates.values())
    if are_kept and are_passed and StepState.SKIPPED not in states:
        return RunStatus.DONE
    return RunStatus.PARTIAL_SUCCESS
