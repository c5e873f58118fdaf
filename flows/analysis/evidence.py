"""What is kept of a run, read once: its report, records, results, and the curves of its steps.

    evidence = RunEvidence.read(find_run("latest"))
    evidence.results["train"].final_train_loss
    evidence.curves()["train"]                 # lines of metrics.jsonl

A record that is gone or damaged is in nobody's way: it stands in `damaged` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flows.experiment.folder import RunFolder
from flows.experiment.lineage import resolved_of
from flows.experiment.record import RunReport
from tasks.artifacts import ArtifactRef
from tasks.errors import Corrupted, LabwrightError, StoreError
from tasks.metrics import read_metrics
from tasks.registry import step_of
from tasks.spec import Result
from tasks.store import Record, open_store
from tasks.train import TrainResult

R = TypeVar("R", bound=Result)

METRICS = "metrics.jsonl"
LOSSES = ("loss", "validation_loss", "train_loss", "eval_loss")


@dataclass(frozen=True)
class RunEvidence:
    """Everything that facts and pages are made of."""

    folder: RunFolder
    report: RunReport
    records: Mapping[str, Record]
    results: Mapping[str, Result]
    damaged: Mapping[str, str]
    resolved: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: RunFolder) -> RunEvidence:
        """Raises `StoreError` where the run's own report cannot be read."""
        report = folder.read()
        if report is None:
            raise StoreError(f"{folder.path} holds no run.json")
        store = open_store()
        records: dict[str, Record] = {}
        results: dict[str, Result] = {}
        damaged: dict[str, str] = {}
        for name, step in report.steps.items():
            if step.identity is None or not step.state.has_result:
                continue
            try:
                record = store.read_record(step.kind, step.identity)
                if record is None:
                    damaged[name] = "its record is gone"
                    continue
                results[name] = step_of(step.kind).result(record)
                records[name] = record
            except (LabwrightError, ValueError) as error:
                damaged[name] = str(error).splitlines()[0]
        return cls(folder, report, records, results, damaged, resolved_of(folder))

    def of_type(self, result_type: type[R]) -> Iterator[tuple[str, R]]:
        """Steps whose result is of a type, in the order of the run."""
        for name, result in self.results.items():
            if isinstance(result, result_type):
                yield name, result

    def path(self, ref: ArtifactRef) -> Path | None:
        """The verified file or folder; None where it is gone or damaged."""
        try:
            return open_store().materialize(ref)
        except (Corrupted, StoreError, OSError):
            return None

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Lines with a loss, by step: of a training its curve, of any other what it logged."""
        found = {}
        for name in self.report.steps:
            lines = [line for line in self._metrics(name) if any(key in line for key in LOSSES)]
            if lines:
                found[name] = lines
        return found

    def _metrics(self, name: str) -> list[dict[str, Any]]:
        result = self.results.get(name)
        path: Path | None = self.folder.logs / name / METRICS
        if isinstance(result, TrainResult):
            path = self.path(result.curve)
        return read_metrics(path) if path is not None and path.is_file() else []
