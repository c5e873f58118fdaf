"""A finished run as the store keeps one, made by hand in a second: records, artifacts, run.json.

    run = keep_run(tmp_path)                                   # in the LABWRIGHT_HOME of the test
    run = keep_run(tmp_path, num_steps=600, error_every=4)     # another, with other results
    run = keep_run(tmp_path, said="<script>alert(1)</script>") # what a model or an author says

The analysis in it is made by the real body; all else is typed in.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.experiment.folder import RunFolder
from flows.experiment.record import (
    DeliverableReport,
    DeliverableState,
    RunReport,
    RunStatus,
    StepReport,
    StepState,
)
from tasks.analyze.spec import AnalyzeSpec, Evaluation, Variant
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.benchmark.spec import BenchmarkResult, LoadPoint, Percentiles
from tasks.body import BodyContext
from tasks.compress.spec import CompressResult
from tasks.evaluate.spec import EvaluateResult, Score
from tasks.gate import CriterionVerdict, GateResult, Verdict
from tasks.prepare.spec import PrepareResult, SplitCounts, TextCounts
from tasks.spec import Result
from tasks.store import Record, open_store
from tasks.train import TrainResult

NUM_ITEMS = 60
NUM_MODEL_BYTES = 4000
UPSTREAM = {
    "data": (),
    "train": ("data",),
    "small": ("train",),
    "eval_base": ("train",),
    "eval_small": ("small",),
    "bench": ("small",),
    "analysis": ("eval_base", "eval_small", "bench"),
}
DURATIONS_S = {
    "data": 5.0,
    "train": 100.0,
    "small": 20.0,
    "eval_base": 30.0,
    "eval_small": 30.0,
    "bench": 40.0,
    "analysis": 2.0,
}


def keep_run(
    folder: Path,
    *,
    num_steps: int = 300,
    error_every: int = 10,
    said: str = "plain",
    slo_ms: float = 60.0,
    with_analysis: bool = True,
    num_overlapping: int = 3,
    num_test: int = 40,
) -> RunFolder:
    """Keep a run and everything that it names; `error_every` is how often the variant is wrong."""
    run = RunFolder.create()
    work = folder / f"work-{run.id}"
    work.mkdir(parents=True)
    keeper = _Keeper(work, f"{num_steps}-{error_every}-{said}")
    base = keeper.evaluation("eval_base", error_every=10**6, said=said)
    small = keeper.evaluation("eval_small", error_every=error_every, said=said)
    keeper.record("data", "prepare", _prepared(num_overlapping, num_test), _PREPARE_SPEC)
    keeper.record("train", "train", keeper.trained(num_steps))
    keeper.record("small", "compress", keeper.compressed())
    keeper.record("eval_base", "evaluate", base)
    keeper.record("eval_small", "evaluate", small)
    points = tuple(
        load_point(load, repeat, speed + repeat, itl, slo_met=itl <= slo_ms)
        for load, speed, itl in (("synchronous", 20.0, 40.0), ("concurrent 4", 60.0, 70.0))
        for repeat in range(3)
    )
    benchmark = BenchmarkResult(
        points=points,
        hardware="here",
        server_startup_s=1.0,
        report=keeper.file("guidellm", ArtifactKind.FILE, "{}"),
        server_log=keeper.file("log", ArtifactKind.LOG, "up"),
    )
    level = {"service_level": {"itl_ms": slo_ms, "fraction": 0.99}}
    keeper.record("bench", "benchmark", benchmark, level)
    if with_analysis:
        keeper.analyzed(said, base, small, points)
    kept = {name: kind for name, (kind, _) in keeper.kept.items()}
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    report = RunReport(
        id=run.id,
        name="kept",
        status=RunStatus.DONE,
        file=str(folder / "kept.yaml"),
        overrides=(f"steps.train.num_steps={num_steps}",),
        header={"name": "kept", "description": said, "hypothesis": "It keeps 99.5%."},
        started=started,
        ended=started + timedelta(seconds=200),
        seconds=200.0,
        steps={
            name: StepReport(
                kind=kind,
                state=StepState.DONE,
                identity=keeper.kept[name][1],
                seconds=DURATIONS_S[name],
                upstream=UPSTREAM[name],
            )
            for name, kind in kept.items()
        },
        deliverables={
            "model": DeliverableReport(
                type="model", validation="exists", state=DeliverableState.UNMET, problems=(said,)
            )
        },
        gates={"gate": gate_result(said)},
        provenance={"argv": ["labwright", "run", said], "labwright": {"commit": "c" * 40}},
    )
    run.write(report)
    run.spec.mkdir()
    resolved = {
        "experiment": {"name": "kept"},
        "steps": {"train": {"kind": "train", "num_steps": num_steps}},
    }
    (run.spec / "resolved.json").write_text(json.dumps(resolved))
    return run


class _Keeper:
    """Puts artifacts and records of one run into the store."""

    def __init__(self, work: Path, seed: str):
        self.work = work
        self.seed = seed
        self.store = open_store()
        self.kept: dict[str, tuple[str, str]] = {}

    def file(self, name: str, kind: ArtifactKind, text: str) -> ArtifactRef:
        path = self.work / name
        path.write_text(text, encoding="utf-8")
        return self.store.put(path, kind, name)

    def lines(self, name: str, kind: ArtifactKind, lines: Sequence[Any]) -> ArtifactRef:
        return self.file(name, kind, "".join(f"{json.dumps(line)}\n" for line in lines))

    def record(
        self, name: str, kind: str, result: Result, spec: Mapping[str, Any] | None = None
    ) -> None:
        identity = hashlib.sha256(f"{self.seed} {name}".encode()).hexdigest()
        document = result.model_dump(mode="json")
        artifacts = {
            value["digest"]: ArtifactRef.model_validate(value)
            for value in document.values()
            if isinstance(value, dict) and "digest" in value
        }
        self.store.commit(
            Record(
                step=kind,
                identity=identity,
                spec=dict(spec or {}),
                result=document,
                artifacts=tuple(artifacts.values()),
                provenance={"duration_s": DURATIONS_S[name], "versions": {"torch": "2.13.0"}},
            )
        )
        self.kept[name] = (kind, identity)

    def evaluation(self, name: str, error_every: int, said: str) -> EvaluateResult:
        rng = random.Random(0)
        samples, outputs = [], []
        for n in range(NUM_ITEMS):
            digest = hashlib.sha256(f"item {n}".encode()).hexdigest()
            right = n % 3 == 0 or n % error_every != 0
            bits = 100 + 7 * rng.random() + (0.0 if error_every > NUM_ITEMS else 4.0)
            values = (("choice", "acc", float(right), 1.0), ("text", "bits_per_byte", bits, 50.0))
            samples += [
                {
                    "task": task,
                    "metric": metric,
                    "item": digest[:32],
                    "cluster": None,
                    "numerator": above,
                    "denominator": below,
                }
                for task, metric, above, below in values
            ]
            outputs.append(
                {
                    "task": "choice",
                    "doc_id": n,
                    "doc_hash": digest,
                    "filter": "none",
                    "arguments": [[f"{said} {n}?", " yes"], [f"{said} {n}?", f" no {said}"]],
                    "filtered_resps": [[-1.0 if right else -3.0, False], [-2.0, False]],
                    "target": "0",
                    "metrics": ["acc"],
                    "acc": float(right),
                }
            )
        scores = tuple(
            Score(
                task=task,
                metric=metric,
                value=sum(s["numerator"] for s in samples if s["task"] == task) / total,
                stderr=0.01,
                num_items=NUM_ITEMS,
                higher_is_better=is_higher,
            )
            for task, metric, total, is_higher in (
                ("choice", "acc", NUM_ITEMS, True),
                ("text", "bits_per_byte", 50 * NUM_ITEMS, False),
            )
        )
        return EvaluateResult(
            scores=scores,
            samples=self.lines(f"{name}.samples", ArtifactKind.SAMPLES, samples),
            results=self.file(f"{name}.results", ArtifactKind.TABLE, "{}"),
            outputs=self.lines(f"{name}.outputs", ArtifactKind.FILE, outputs),
        )

    def trained(self, num_steps: int) -> TrainResult:
        curve = [
            {"step": step, "loss": 3 + 4 * math.exp(-3 * step / num_steps)}
            for step in range(0, num_steps + 1, num_steps // 30)
        ]
        return TrainResult(
            model=self.file("model", ArtifactKind.MODEL, f"weights {num_steps}"),
            curve=self.lines("curve", ArtifactKind.METRICS, curve),
            initial_train_loss=curve[0]["loss"],
            final_train_loss=curve[-1]["loss"],
            initial_validation_loss=7.1,
            final_validation_loss=3.3 - num_steps / 10_000,
            num_steps=num_steps,
            num_tokens=1000,
            num_epochs=1.0,
            num_parameters=NUM_MODEL_BYTES // 2,
            size_bytes=NUM_MODEL_BYTES,
        )

    def compressed(self) -> CompressResult:
        return CompressResult(
            model=self.file("small", ArtifactKind.MODEL, "small weights"),
            recipe=self.file("recipe", ArtifactKind.RECIPE, "{}"),
            scheme="W8A8",
            format="int-quantized",
            size_bytes=NUM_MODEL_BYTES // 2,
            base_size_bytes=NUM_MODEL_BYTES,
            size_ratio=0.5,
            expected_size_ratio=0.5,
            num_linear_modules=15,
            num_quantized_modules=14,
        )

    def analyzed(
        self, said: str, base: EvaluateResult, small: EvaluateResult, points: tuple[LoadPoint, ...]
    ) -> None:
        from tasks.analyze.body import main

        def evaluations(result: EvaluateResult) -> tuple[Evaluation, ...]:
            return (Evaluation(scores=result.scores, samples=result.samples),)

        spec = AnalyzeSpec(
            title=f"Kept {said}",
            baseline="base",
            variants={
                "base": Variant(
                    evaluations=evaluations(base),
                    model_size_bytes=NUM_MODEL_BYTES,
                    load_points=tuple(
                        p.model_copy(update={"output_tokens_per_s": 50.0}) for p in points
                    ),
                ),
                said: Variant(
                    evaluations=evaluations(small),
                    model_size_bytes=NUM_MODEL_BYTES // 2,
                    load_points=points,
                ),
            },
        )
        out = self.work / "analysis"
        out.mkdir()
        inputs = {
            ref.digest: str(self.store.materialize(ref)) for ref in (base.samples, small.samples)
        }
        result = main(spec, BodyContext(out, self.work, inputs))
        self.store.put(out / "table.json", ArtifactKind.TABLE, "table")
        self.store.put(out / "report", ArtifactKind.REPORT, "report")
        self.record("analysis", "analyze", result, spec.model_dump(mode="json"))


def load_point(
    load: str, repeat: int, tokens_per_s: float, itl_ms: float, slo_met: bool | None = None
) -> LoadPoint:
    """One load in one repeat, with the same time for every request."""
    spread = Percentiles(mean=itl_ms, p50=itl_ms, p90=itl_ms, p95=itl_ms, p99=itl_ms)
    return LoadPoint(
        load=load,
        kind="concurrent",
        repeat=repeat,
        duration_s=1.0,
        num_successful=8,
        num_errored=0,
        num_incomplete=0,
        error_fraction=0.0,
        requests_per_s=1.0,
        output_tokens_per_s=tokens_per_s,
        ttft_ms=spread,
        itl_ms=spread,
        latency_s=None,
        slo_met=slo_met,
    )


def gate_result(said: str) -> GateResult:
    """A gate that was not passed, with words of its own."""
    criterion = CriterionVerdict.model_validate(
        {
            "kind": "recovery",
            "verdict": "failed",
            "limit": "above",
            "threshold": 0.99,
            "number": 0.9,
            "low": 0.85,
            "high": 0.95,
            "num_units": NUM_ITEMS,
            "words": f"recovery is 90% {said}",
        }
    )
    return GateResult(
        passed=False,
        verdict=Verdict.FAILED,
        stops=True,
        summary=f"failed {said}",
        criteria={"quality": criterion},
    )


def _prepared(num_overlapping: int, num_test: int) -> PrepareResult:
    def split(num_documents: int) -> SplitCounts:
        return SplitCounts(num_documents=num_documents, num_bytes=10 * num_documents)

    return PrepareResult(
        counts=TextCounts(
            train=split(900),
            validation=split(60),
            test=split(num_test),
            num_files=7,
            num_duplicates=2,
            num_too_short=1,
            num_overlapping=num_overlapping,
            num_skipped_files=0,
            num_replaced_characters=0,
        )
    )


_SOURCE = {"kind": "text", "digest": "0" * 64, "size_bytes": 1, "name": "text"}
_PREPARE_SPEC = {"text": {"source": _SOURCE}}
