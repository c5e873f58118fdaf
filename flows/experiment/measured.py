"""What a run measured, read back from the store and verified; there is no second way.

steps, lost = measured_steps(report, open_store())
steps["evaluate"].result, lost["train"]             # typed, and why another cannot be read
samples = read_items(store, steps["evaluate"].result)
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.experiment.record import RunReport
from tasks.analyze.rows import Samples, samples_at
from tasks.errors import LabwrightError, StoreError
from tasks.evaluate.spec import EvaluateResult
from tasks.registry import step_of
from tasks.spec import Result
from tasks.store import Record, Store


@dataclass(frozen=True)
class MeasuredStep:
    """A step of a run that has a result."""

    name: str
    record: Record
    result: Result

    @property
    def kind(self) -> str:
        return self.record.step


def measured_step(store: Store, name: str, kind: str, identity: str) -> MeasuredStep:
    """A verified record as its typed result; `StoreError`, `Corrupted` or ValueError in words."""
    record = store.read_record(kind, identity)
    if record is None:
        raise StoreError(f"its record {identity[:12]} is gone from the store")
    return MeasuredStep(name, record, step_of(kind).result(record))


def measured_steps(
    report: RunReport, store: Store
) -> tuple[dict[str, MeasuredStep], dict[str, str]]:
    """The steps that have results, in the order of the run; of the unreadable ones the reasons."""
    found: dict[str, MeasuredStep] = {}
    lost: dict[str, str] = {}
    for name, step in report.steps.items():
        if not step.state.has_result or step.identity is None:
            continue
        try:
            found[name] = measured_step(store, name, step.kind, step.identity)
        except (LabwrightError, ValueError) as error:
            lost[name] = str(error).partition("\n")[0]  # pydantic lists every field below
    return found, lost


def read_items(store: Store, result: EvaluateResult) -> Samples:
    """The items behind an evaluation's scores, verified; raises as `measured_step` does."""
    return samples_at([store.materialize(result.samples)])
