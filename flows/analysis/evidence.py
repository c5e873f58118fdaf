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
from flows.experiment.measured import measured_steps
from flows.experiment.record import RunReport
from tasks.artifacts import ArtifactRef
from tasks.errors import Corrupted, StoreError
from tasks.metrics import read_metrics
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
        steps, lost = measured_steps(report, open_store())
        return cls(
            folder,
            report,
            records={name: step.record for name, step in steps.items()},
            results={name: step.result for name, step in steps.items()},
            damaged={name: reason.splitlines()[0] for name, reason in lost.items()},
            resolved=resolved_of(folder),
        )

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
