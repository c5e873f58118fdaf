"""What a run would do: which steps are cached, which will run, which depend on what those find.

    plan(experiment, look).is_fully_cached

Pure: the store is a function that the caller passes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flows.experiment.gates import held_back
from flows.experiment.sound import Experiment, ExperimentStep
from tasks.command import CommandSpec
from tasks.errors import SpecError
from tasks.spec import Result, Spec
from tasks.store.base import Record

Look = Callable[[ExperimentStep, Spec], tuple[str, Record | None]]
"""The identity of a spec, and its verified record if there is one."""


class PlanState(StrEnum):
    """What is known of a step before the run."""

    CACHED = "cached"
    WILL_RUN = "will run"
    DEPENDS = "depends"  # on what the steps before it will find
    HELD_BACK = "held back"  # by a gate that was not passed, or a step that cannot run
    CANNOT_RUN = "cannot run"  # what the steps before it found makes its spec a wrong one


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan; spec and identity are known if all that it takes is cached."""

    step: ExperimentStep
    state: PlanState
    spec: Spec | None = None
    identity: str | None = None
    record: Record | None = None
    reason: str = ""  # why it is held back, or cannot run


@dataclass(frozen=True)
class Plan:
    """All steps, in an order in which they can run."""

    steps: dict[str, PlannedStep] = field(default_factory=dict)

    @property
    def is_fully_cached(self) -> bool:
        """Whether nothing is left to compute."""
        known = (PlanState.CACHED, PlanState.HELD_BACK)
        return all(planned.state in known for planned in self.steps.values())


def runs_every_time(step: ExperimentStep) -> bool:
    """Whether nobody can know what the step reads: a script that declares no inputs."""
    return issubclass(step.step.spec_type, CommandSpec) and step.fields.get("inputs") is None


def plan(experiment: Experiment, look: Look, occasion: str = "") -> Plan:
    """Look each step up, as far as the results before it are known.

    `occasion` is the run's id: what a script without declared inputs left is good for one run.
    Raises `SpecError` for a step that depends on no other: then nothing of the file can run.
    """
    steps: dict[str, PlannedStep] = {}
    results: dict[str, Result] = {}
    for name, step in experiment.steps.items():
        if reason := _held_back(step, steps, results):
            steps[name] = PlannedStep(step, PlanState.HELD_BACK, reason=reason)
            continue
        if any(upstream not in results for upstream in step.upstream):
            steps[name] = PlannedStep(step, PlanState.DEPENDS)
            continue
        try:
            spec = spec_for_run(step.spec(results), occasion)
            identity, record = look(step, spec)
        except SpecError as error:
            if not step.upstream:
                raise
            steps[name] = PlannedStep(step, PlanState.CANNOT_RUN, reason=str(error))
            continue
        state = PlanState.CACHED if record else PlanState.WILL_RUN
        steps[name] = PlannedStep(step, state, spec, identity, record)
        if record:
            results[name] = step.step.result(record)
    return Plan(steps)


def _held_back(
    step: ExperimentStep, before: Mapping[str, PlannedStep], results: Mapping[str, Result]
) -> str | None:
    without_end = (PlanState.HELD_BACK, PlanState.CANNOT_RUN)
    lost = [up for up in step.upstream if before[up].state in without_end]
    if lost:
        return f"skipped: step '{lost[0]}' did not finish"
    return held_back(step.upstream, results)


def spec_for_run(spec: Spec, occasion: str) -> Spec:
    """The spec as it stands in one run."""
    return spec.on_occasion(occasion) if isinstance(spec, CommandSpec) else spec
