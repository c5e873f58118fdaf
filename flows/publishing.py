"""From a run to a published model: which model, what is known of it, and where it goes.

    chosen = choose(report, records, step="w8a8")
    card = card_of(chosen, report, records, store)

Measurements are found by content: whatever the run evaluated or benchmarked with the bytes of the
model belongs to the model, whichever way its steps are named.
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.experiment.record import RunReport
from tasks.artifacts import ArtifactRef
from tasks.errors import SpecError, nearest
from tasks.publish import Card, ScoreRow, ServingRow
from tasks.registry import step_of
from tasks.scrubbing import scrub
from tasks.store import Record, Store, open_store

KINDS = ("compress", "train")
CONFIDENCE = 0.95
HIDDEN_FIELDS = ("model", "recipe", "calibration", "train_tokens", "validation_tokens")


def records_of(report: RunReport) -> dict[str, Record]:
    """The verified records of the steps that have results."""
    store = open_store()
    found = {}
    for name, step in report.steps.items():
        if step.state.has_result and step.identity is not None:
            record = store.read_record(step.kind, step.identity)
            if record is not None:
                found[name] = record
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


def choose(report: RunReport, records: Mapping[str, Record], step: str | None) -> Chosen:
    """The named step, or the only one that made a model; raises `SpecError` that lists them."""
    made = {name: record for name, record in records.items() if record.step in KINDS}
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


def card_of(
    chosen: Chosen,
    report: RunReport,
    records: Mapping[str, Record],
    store: Store,
    *,
    license_: str | None = None,
    base_model: str | None = None,
) -> Card:
    """Everything that the run knows of the model."""
    record, result = chosen.record, chosen.record.result
    root = _root(chosen, records)
    origin = root.spec.get("model") if root is not None else None
    hub_id = origin.get("id") if isinstance(origin, dict) and origin.get("kind") == "hub" else None
    benchmarks = [r for r in records.values() if _is_of(r, "benchmark", chosen.model.digest)]
    return Card(
        title=f"{report.name}: {chosen.step}",
        kind=record.step,
        summary=_summary(chosen, origin),
        base_model=base_model or hub_id,
        license=license_ or _license(chosen, records, store),
        tags=(record.step, *([result["format"]] if "format" in result else [])),
        scores=tuple(_scores(chosen, records, store)),
        confidence=CONFIDENCE,
        serving=tuple(row for benchmark in benchmarks for row in _serving(benchmark)),
        serving_hardware=", ".join(dict.fromkeys(str(b.result["hardware"]) for b in benchmarks)),
        recipe=_recipe(record, store),
        settings={
            key: value
            for key, value in scrub(record.spec).items()
            if key not in HIDDEN_FIELDS and value is not None
        },
        commands=_commands(report),
        provenance=tuple(_provenance(chosen, report)),
    )


def extras(card: str, chosen: Chosen, experiment_text: bytes | None) -> dict[str, bytes]:
    """The files beside the model: its card, the experiment, where the model came from."""
    told = scrub(
        {
            "step": chosen.record.step,
            "identity": chosen.record.identity,
            "model_sha256": chosen.model.digest,
            "result": chosen.record.result,
            "provenance": {k: v for k, v in chosen.record.provenance.items() if k != "host"},
        }
    )
    files = {
        "README.md": card.encode(),
        "labwright/provenance.json": json.dumps(told, indent=1).encode(),
    }
    if experiment_text is not None:
        files["labwright/experiment.yaml"] = experiment_text
    return files


def _is_of(record: Record, kind: str, digest: str) -> bool:
    model = record.spec.get("model")
    return record.step == kind and isinstance(model, dict) and model.get("digest") == digest


def _maker(digest: str, records: Mapping[str, Record]) -> Record | None:
    """The step whose result is this model."""
    for record in records.values():
        made = record.result.get("model")
        if isinstance(made, dict) and made.get("digest") == digest:
            return record
    return None


def _root(chosen: Chosen, records: Mapping[str, Record]) -> Record | None:
    """The prepare step that the model goes back to, if the run has it."""
    digest, seen = chosen.base_digest, set[str]()
    while digest not in seen:
        seen.add(digest)
        maker = _maker(digest, records)
        if maker is None or maker.step not in KINDS:
            return maker
        digest = str(maker.spec["model"]["digest"])
    return None


def _license(chosen: Chosen, records: Mapping[str, Record], store: Store) -> str | None:
    """What the front matter of the base's own card says."""
    root = _root(chosen, records)
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


def _scores(chosen: Chosen, records: Mapping[str, Record], store: Store) -> Iterator[ScoreRow]:
    """Each score with its interval; beside it the base model's, where it was asked the same."""
    from tasks.analyze.rows import parse_samples, read_samples
    from tasks.analyze.table import recovery_words
    from tasks.gate.measures import score as measured

    for record in records.values():
        if not _is_of(record, "evaluate", chosen.model.digest):
            continue
        step = step_of("evaluate")
        found = step.result(record)
        asked = {key: value for key, value in record.spec.items() if key != "model"}
        base = next(
            (
                step.result(other)
                for other in records.values()
                if _is_of(other, "evaluate", chosen.base_digest)
                and {k: v for k, v in other.spec.items() if k != "model"} == asked
            ),
            None,
        )
        samples, baseline = (
            read_samples(parse_samples(store.materialize(one.samples).open(encoding="utf-8")))
            if one is not None
            else {}
            for one in (found, base)
        )
        known = {(one.task, one.label): one for one in base.scores} if base is not None else {}
        for score in found.scores:
            key = (score.task, score.label)
            interval = measured(score, samples.get(key), CONFIDENCE)
            value = f"{score.value:.4g}"
            if interval.has_interval:
                value += f" ({interval.low:.4g} to {interval.high:.4g})"
            kept = _recovery(score, samples, baseline)
            yield ScoreRow(
                metric=f"{score.task}/{score.label}",
                score=value,
                baseline=f"{known[key].value:.4g}" if key in known else "",
                recovery=recovery_words(kept) if kept is not None else "",
                num_items=score.num_items,
            )


def _recovery(score: Any, samples: Any, baseline: Any) -> Any:
    from tasks.analyze.rows import recoveries

    key = (score.task, score.label)
    if key not in samples or key not in baseline or score.higher_is_better is None:
        return None
    pair = ({key: baseline[key]}, {key: samples[key]})
    (found,) = recoveries({key: score.higher_is_better}, *pair, CONFIDENCE)
    return found


def _serving(record: Record) -> Iterator[ServingRow]:
    points = step_of("benchmark").result(record).points
    for load in dict.fromkeys(point.load for point in points):
        repeats = [point for point in points if point.load == load]
        speed = statistics.median(point.output_tokens_per_s for point in repeats)
        yield ServingRow(
            load=load,
            tokens_per_s=f"{speed:.4g}",
            ttft_ms=_latency(repeats, "ttft_ms"),
            itl_ms=_latency(repeats, "itl_ms"),
            num_repeats=len(repeats),
        )


def _latency(repeats: list[Any], field: str) -> str:
    found = [getattr(point, field) for point in repeats]
    if any(one is None for one in found):
        return ""
    median, tail = (statistics.median(getattr(one, p) for one in found) for p in ("p50", "p99"))
    return f"{median:.1f} / {tail:.1f} ms"


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
