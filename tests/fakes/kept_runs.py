"""Runs that were never computed: results put straight into the store, for whatever reads runs.

run = keep_run({"evaluate": evaluation({"gsm8k": [1, 0, 1]})}, {"steps": {…}})
"""

from __future__ import annotations

import hashlib
import json
import secrets
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.experiment import RunFolder, RunReport, RunStatus, StepState
from flows.experiment.record import StepReport
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.benchmark.spec import BenchmarkResult, LoadPoint, Percentiles
from tasks.contents import artifacts_in
from tasks.evaluate.spec import EvaluateResult, Score, ScorePart
from tasks.spec import Result
from tasks.store import Record, open_store
from tasks.train.spec import TrainResult

MACHINE = {"cpu_model": "Fast", "num_cpus": 8, "gpu_models": []}


@dataclass(frozen=True)
class Kept:
    """A step's answer, and where it came from."""

    kind: str
    result: Result
    spec: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"hardware": MACHINE})
    identity: str = ""


def keep_run(
    steps: Mapping[str, Kept], resolved: Mapping[str, Any] | None = None, name: str = "kept"
) -> RunFolder:
    """A finished run with these results."""
    folder = RunFolder.create()
    reports = {}
    for step, kept in steps.items():
        identity = kept.identity or hashlib.sha256(secrets.token_bytes(8)).hexdigest()
        open_store().commit(
            Record(
                step=kept.kind,
                identity=identity,
                spec=dict(kept.spec),
                result=kept.result.model_dump(mode="json"),
                artifacts=artifacts_in(kept.result),
                provenance=dict(kept.provenance),
            )
        )
        reports[step] = StepReport(kind=kept.kind, state=StepState.DONE, identity=identity)
    folder.spec.mkdir()
    (folder.spec / "resolved.json").write_text(json.dumps(resolved or {"steps": {}}))
    report = RunReport(
        id=folder.id,
        name=name,
        status=RunStatus.DONE,
        file="file.yaml",
        started=datetime.now(UTC),
        steps=reports,
    )
    folder.write(report)
    return folder


def kept_file(text: str, kind: ArtifactKind, name: str) -> ArtifactRef:
    """A file artifact with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text)
        return open_store().put(path, kind, name)


def evaluation(
    answers: Mapping[str, Sequence[float]],
    *,
    sources: Sequence[str] | None = None,
    spec: Mapping[str, Any] | None = None,
    first_item: int = 0,
    **provenance: Any,
) -> Kept:
    """Right and wrong answers by task, item by item; the same items unless they begin elsewhere."""
    lines = [
        {
            "task": task,
            "metric": "acc",
            "item": f"item{first_item + n}",
            "cluster": sources[n] if sources else None,
            "numerator": answer,
            "denominator": 1.0,
        }
        for task, given in answers.items()
        for n, answer in enumerate(given)
    ]
    samples = "".join(json.dumps(line) + "\n" for line in lines)
    result = EvaluateResult(
        scores=tuple(
            Score(
                task=task,
                metric="acc",
                value=sum(given) / len(given),
                num_items=len(given),
                higher_is_better=True,
            )
            for task, given in answers.items()
        ),
        samples=kept_file(samples, ArtifactKind.SAMPLES, "samples.jsonl"),
        results=kept_file("{}", ArtifactKind.TABLE, "results.json"),
        outputs=kept_file("", ArtifactKind.FILE, "outputs.jsonl"),
    )
    return Kept("evaluate", result, spec or {}, {"hardware": MACHINE, **provenance})


def with_average(answers: dict[str, list[float]]) -> Kept:
    """An evaluation with the mean of its tasks as one more score."""
    kept = evaluation(answers)
    scores = kept.result.scores  # type: ignore[attr-defined]
    mean = Score(
        task="all",
        metric="average",
        value=statistics.fmean(score.value for score in scores),
        num_items=sum(score.num_items for score in scores),
        higher_is_better=True,
        parts=tuple(
            ScorePart(task=task, metric="acc", factor=1 / len(answers), items=task)
            for task in answers
        ),
    )
    return replace(kept, result=kept.result.model_copy(update={"scores": (*scores, mean)}))


def benchmark(
    tokens_per_s: Sequence[float], *, spec: Mapping[str, Any] | None = None, **provenance: Any
) -> Kept:
    """One load, one point a repeat."""
    spread = Percentiles(mean=5, p50=5, p90=6, p95=7, p99=9)
    points = [
        LoadPoint(
            load="concurrent 4",
            kind="concurrent",
            repeat=repeat,
            duration_s=1.0,
            num_successful=8,
            num_errored=0,
            num_incomplete=0,
            error_fraction=0.0,
            requests_per_s=8.0,
            output_tokens_per_s=value,
            ttft_ms=spread,
            itl_ms=spread,
            latency_s=spread,
        )
        for repeat, value in enumerate(tokens_per_s)
    ]
    result = BenchmarkResult(
        points=tuple(points),
        hardware="cpu-fast-8",
        server_startup_s=1.0,
        report=kept_file("{}", ArtifactKind.FILE, "report"),
        server_log=kept_file("", ArtifactKind.LOG, "log"),
    )
    return Kept("benchmark", result, spec or {}, {"hardware": MACHINE, **provenance})


def training(
    validation_loss: float, *, spec: Mapping[str, Any] | None = None, **provenance: Any
) -> Kept:
    """A training that ended with this loss."""
    result = TrainResult(
        model=kept_file(f"model {validation_loss}", ArtifactKind.MODEL, "model"),
        curve=kept_file("", ArtifactKind.METRICS, "curve.jsonl"),
        initial_train_loss=6.0,
        final_train_loss=3.0,
        final_validation_loss=validation_loss,
        num_steps=10,
        num_tokens=1000,
        num_epochs=1.0,
        num_parameters=100,
        size_bytes=200,
    )
    return Kept("train", result, spec or {}, {"hardware": MACHINE, **provenance})
