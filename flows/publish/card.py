"""The card of a published model: everything that its run knows of it.

card = card_of(chosen, report, steps, store, license_="apache-2.0")
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.experiment.measured import MeasuredStep
from flows.experiment.record import RunReport
from flows.publish.choose import Chosen, is_of, root_of
from flows.publish.measurements import CONFIDENCE, scores_of, serving_of
from tasks.artifacts import ArtifactRef
from tasks.benchmark.spec import BenchmarkResult
from tasks.publish import Card
from tasks.scrubbing import scrub
from tasks.store import Record, Store

HIDDEN_FIELDS = ("model", "recipe", "calibration", "train_tokens", "validation_tokens")


def card_of(
    chosen: Chosen,
    report: RunReport,
    steps: Mapping[str, MeasuredStep],
    store: Store,
    *,
    license_: str | None = None,
    base_model: str | None = None,
) -> Card:
    """What was not stated, and is not known, is absent."""
    record, result = chosen.record, chosen.record.result
    root = root_of(chosen, steps)
    origin = root.spec.get("model") if root is not None else None
    hub_id = origin.get("id") if isinstance(origin, dict) and origin.get("kind") == "hub" else None
    benchmarks = [
        step.result
        for step in steps.values()
        if is_of(step.record, "benchmark", chosen.model.digest)
        and isinstance(step.result, BenchmarkResult)
    ]
    return Card(
        title=f"{report.name}: {chosen.step}",
        kind=record.step,
        summary=_summary(chosen, origin),
        base_model=base_model or hub_id,
        license=license_ or _license(chosen, steps, store),
        tags=(record.step, *([result["format"]] if "format" in result else [])),
        scores=tuple(scores_of(chosen, steps, store)),
        confidence=CONFIDENCE,
        serving=tuple(row for benchmark in benchmarks for row in serving_of(benchmark)),
        serving_hardware=", ".join(dict.fromkeys(found.hardware for found in benchmarks)),
        recipe=_recipe(record, store),
        settings={
            key: value
            for key, value in scrub(record.spec).items()
            if key not in HIDDEN_FIELDS and value is not None
        },
        commands=_commands(report),
        provenance=tuple(_provenance(chosen, report)),
    )


def _license(chosen: Chosen, steps: Mapping[str, MeasuredStep], store: Store) -> str | None:
    """What the front matter of the base's own card says."""
    root = root_of(chosen, steps)
    named = (root.result if root is not None else chosen.record.spec).get("model")
    if named is None or "path" in named:
        return None
    card = store.materialize(ArtifactRef.model_validate(named)) / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0]:
        return None
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    found = front.get("license") if isinstance(front, dict) else None
    return found if isinstance(found, str) else None


def _summary(chosen: Chosen, origin: Any) -> str:
    result = chosen.record.result
    if chosen.record.step == "train":
        return (
            f"A model of {result['num_parameters']:,} parameters, trained for "
            f"{result['num_steps']:,} steps on {result['num_tokens']:,} tokens."
        )
    source = ""
    if isinstance(origin, dict) and origin.get("id"):
        source = f" of {origin['id']} at revision {origin.get('revision')}"
    return f"A compression{source}: {result['scheme']}, {result['size_ratio']:.1%} of its size."


def _recipe(record: Record, store: Store) -> str:
    named = record.result.get("recipe")
    if not isinstance(named, dict):
        return ""
    return store.materialize(ArtifactRef.model_validate(named)).read_text(encoding="utf-8")


def _commands(report: RunReport) -> tuple[str, ...]:
    """The experiment lies beside the model; paths in it are relative to where the original lay."""
    words = ["labwright", "run", Path(report.file).name]
    for override in report.overrides:
        words += ["--set", override]
    return (f"cp labwright/experiment.yaml {shlex.quote(words[2])}", shlex.join(words))


def _provenance(chosen: Chosen, report: RunReport) -> Iterator[tuple[str, str]]:
    facts = chosen.record.provenance
    code, machine = facts.get("labwright") or {}, facts.get("hardware") or {}
    yield "run", f"{report.name} {report.id}"
    yield "identity", f"{chosen.record.step} {chosen.record.identity}"
    yield "sha256 of the model", chosen.model.digest
    yield "sha256 of the base model", chosen.base_digest
    if code.get("commit"):
        yield "code", f"{code['commit']}{' with changes' if code.get('is_dirty') else ''}"
    versions = facts.get("versions") or {}
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    gpus = ", ".join(machine.get("gpu_models") or ()) or "no GPU"
    yield "hardware", f"{machine.get('cpu_model')}, {machine.get('num_cpus')} CPUs, {gpus}"
    seeds = facts.get("seeds") or {}
    if seeds:
        yield "seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())
    yield "computed", f"{facts.get('started')} in {facts.get('duration_s')} s"
