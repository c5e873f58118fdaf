"""Which model of a run is published, and what it goes back to: by content, never by name.

steps = measured_of(report, open_store())
chosen = choose(report, steps, step="w8a8")
root_of(chosen, steps)                       # the step that brought its base, if the run has it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.experiment.measured import MeasuredStep, measured_steps
from flows.experiment.record import RunReport
from tasks.artifacts import ArtifactRef
from tasks.errors import SpecError, StoreError, nearest
from tasks.store import Record, Store

KINDS = ("compress", "train")
TOLD = (*KINDS, "prepare", "evaluate", "benchmark")  # what a card is made of


def measured_of(report: RunReport, store: Store) -> dict[str, MeasuredStep]:
    """Verified steps of a run; `StoreError` for what cannot be read, as a card would lack it."""
    found, lost = measured_steps(report, store)
    missing = {name: why for name, why in lost.items() if report.steps[name].kind in TOLD}
    if missing:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise StoreError(f"run {report.id} cannot be read whole: {reasons}")
    return found


@dataclass(frozen=True)
class Chosen:
    """The step of a run whose model is published."""

    step: str
    record: Record
    model: ArtifactRef

    @property
    def base_digest(self) -> str:
        return str(self.record.spec["model"]["digest"])


def choose(report: RunReport, steps: Mapping[str, MeasuredStep], step: str | None) -> Chosen:
    """The named step, or the only one that made a model; raises `SpecError` that lists them."""
    made = {name: found.record for name, found in steps.items() if found.kind in KINDS}
    listed = ", ".join(f"{name} ({record.step})" for name, record in made.items())
    if not made:
        raise SpecError(f"run {report.id} finished no step of kind {' or '.join(KINDS)}")
    if step is None and len(made) > 1:
        raise SpecError(f"run {report.id} made {len(made)} models; add --step: {listed}")
    name = next(iter(made)) if step is None else step
    if name not in made:
        hint = nearest(name, made) or f"; there are {listed}"
        raise SpecError(f"run {report.id} made no model in a step '{name}'{hint}")
    record = made[name]
    return Chosen(name, record, ArtifactRef.model_validate(record.result["model"]))


def is_of(record: Record, kind: str, digest: str) -> bool:
    """Whether a step of this kind was given this model."""
    model = record.spec.get("model")
    return record.step == kind and isinstance(model, dict) and model.get("digest") == digest


def _maker(digest: str, steps: Mapping[str, MeasuredStep]) -> Record | None:
    """The step whose result is this model."""
    for record in (step.record for step in steps.values()):
        made = record.result.get("model")
        if isinstance(made, dict) and made.get("digest") == digest:
            return record
    return None


def root_of(chosen: Chosen, steps: Mapping[str, MeasuredStep]) -> Record | None:
    """The prepare step that the model goes back to, if the run has it."""
    digest, seen = chosen.base_digest, set[str]()
    while digest not in seen:
        seen.add(digest)
        maker = _maker(digest, steps)
        if maker is None or maker.step not in KINDS:
            return maker
        digest = str(maker.spec["model"]["digest"])
    return None
