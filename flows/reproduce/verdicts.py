"""Every step of a run that was done again, held against its record, in the order of the run.

    judge = Judge(experiment, originals, lost, (users_store, its_store), again, tolerance=0.25)
    judge.steps()["train"].verdict

Later steps are given what earlier ones made, so that whether those came out alike is known first.
"""

from __future__ import annotations

from collections.abc import Mapping

from flows.compare.subjects import Pair
from flows.experiment import Experiment, RunReport
from flows.experiment.measured import MeasuredStep, measured_step, read_items
from flows.reproduce.judge import differing, judged
from flows.reproduce.record import ArtifactCheck, Expectation, Likeness, StepReproduction
from tasks.analyze.rows import Samples
from tasks.artifacts import ArtifactRef
from tasks.errors import LabwrightError
from tasks.evaluate.spec import EvaluateResult
from tasks.registry import step_of
from tasks.store import Store

LOGS = "\n  logs: "


class Judge:
    """Holds every step against its record, in order, as later ones are given earlier results."""

    def __init__(
        self,
        experiment: Experiment,
        originals: Mapping[str, MeasuredStep],
        lost: Mapping[str, str],
        stores: tuple[Store, Store],
        again: RunReport,
        tolerance: float,
    ):
        self.pairs: dict[str, Pair] = {}
        self._experiment = experiment
        self._originals = originals
        self._lost = lost
        self._stores = stores
        self._again = again
        self._tolerance = tolerance

    def steps(self) -> dict[str, StepReproduction]:
        found: dict[str, StepReproduction] = {}
        for name, step in self._experiment.steps.items():
            found[name] = self._step(name, step.kind, differing(found, step.upstream))
        return found

    def _step(self, name: str, kind: str, given: list[str]) -> StepReproduction:
        then, now = self._originals.get(name), self._again.steps[name]
        if then is None:
            return _without(kind, Likeness.UNKNOWN, self._lost[name])
        if not now.state.has_result or now.identity is None:
            reason = (now.error or now.state.value).partition(LOGS)[0]  # they lie in its home
            return _without(kind, Likeness.FAILED, reason)
        try:
            pair = Pair(then, measured_step(self._stores[1], name, kind, now.identity))
            samples = (_items(self._stores[0], pair.baseline), _items(self._stores[1], pair.other))
        except (LabwrightError, ValueError) as error:
            return _without(kind, Likeness.UNKNOWN, str(error))
        self.pairs[name] = pair
        found = judged(pair, samples, inputs_that_differ=given, tolerance=self._tolerance)
        artifacts = tuple(self._with_files(check, pair) for check in found.artifacts)
        return found.model_copy(update={"artifacts": artifacts})

    def _with_files(self, check: ArtifactCheck, pair: Pair) -> ArtifactCheck:
        """Which files of a folder differ, where both can be read."""
        if check.is_identical:
            return check
        folders = [
            next((ref for ref in side.record.artifacts if ref.digest == digest), None)
            for side, digest in ((pair.baseline, check.before), (pair.other, check.now))
        ]
        try:
            before, now = (
                _files(store, ref) for store, ref in zip(self._stores, folders, strict=True)
            )
        except LabwrightError:
            return check  # damaged: its digest is all that is known of it
        files = sorted(name for name in before | now if before.get(name) != now.get(name))
        return check.model_copy(update={"files": tuple(files)})


def _files(store: Store, ref: ArtifactRef | None) -> dict[str, str]:
    if ref is None or not ref.is_folder:
        return {}
    return {entry.path: entry.sha256 for entry in store.manifest(ref).files}


def _items(store: Store, step: MeasuredStep) -> Samples:
    return read_items(store, step.result) if isinstance(step.result, EvaluateResult) else {}


def _without(kind: str, verdict: Likeness, reason: str) -> StepReproduction:
    expectation = Expectation.MEASURED if step_of(kind).measures else Expectation.BITS
    return StepReproduction(kind=kind, expectation=expectation, verdict=verdict, reasons=(reason,))
