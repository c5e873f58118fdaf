"""The page of a run: its comparison as the analysis made it, or what there is, and all around it.

    html = page_of(evidence, facts, prose=None)

A run without an analysis is shown by its steps: scores, speeds and curves, without a recovery.
Imports matplotlib, so it is imported when a page is made.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flows.analysis import samples
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, by_kind
from flows.analysis.prose import Prose
from flows.experiment.record import DeliverableState, RunStatus
from tasks.analyze import AnalyzeResult, AnalyzeSpec
from tasks.analyze.figures import draw
from tasks.analyze.report import Answer, Claim, Item, Page, Promise, RunPart, render_page
from tasks.analyze.rows import choose_loads, summarise_serving
from tasks.analyze.spec import VariantRow
from tasks.benchmark.spec import BenchmarkResult, LoadPoint, ServiceLevel
from tasks.compress.spec import CompressResult
from tasks.evaluate.spec import EvaluateResult
from tasks.provenance import changes_digest
from tasks.scrubbing import scrub
from tasks.train import TrainResult
from tasks.verdict import Verdict

DIGEST_CHARACTERS = 12


def page_of(evidence: RunEvidence, facts: Sequence[Fact], prose: Prose | None) -> str:
    """HTML that needs nothing else; secrets of this process are not in it."""
    analysis = next(iter(reversed(list(evidence.of_type(AnalyzeResult)))), None)
    spec = None
    points: Mapping[str, Sequence[LoadPoint]]
    if analysis is not None:
        name, result = analysis
        spec = AnalyzeSpec.model_validate(evidence.records[name].spec)
        rows, baseline, primary = result.rows, result.baseline, result.primary
        points = {name: v.load_points for name, v in spec.variants.items() if v.load_points}
    else:
        rows, baseline, primary = _rows_by_step(evidence), None, None
        points = {name: found.points for name, found in evidence.of_type(BenchmarkResult)}
    confidence = spec.confidence if spec else 0.95
    figures = draw(
        rows,
        baseline=baseline,
        primary=primary,
        confidence=confidence,
        load_points=points,
        curves=evidence.curves(),
        service_levels=_service_levels(evidence, spec),
    )
    return render_page(
        Page(
            title=spec.title if spec else evidence.report.name,
            baseline=baseline,
            confidence=confidence,
            rows=rows,
            fronts={
                "small and good": figures.pareto_size,
                "fast and good": figures.pareto_speed,
            },
            plots=figures.plots,
            run=_run_part(evidence, facts, prose, _items(evidence, spec)),
        )
    )


def _rows_by_step(evidence: RunEvidence) -> tuple[VariantRow, ...]:
    """One line for each step that measured something; nothing is compared.

    Speeds of all are told at the loads of the first benchmark.
    """
    rows = []
    benchmarks = evidence.of_type(BenchmarkResult)
    loads = next((choose_loads(result.points) for _, result in benchmarks), None)
    for name, result in evidence.results.items():
        scores = result.scores if isinstance(result, EvaluateResult) else ()
        points = result.points if isinstance(result, BenchmarkResult) else ()
        serving = summarise_serving(points, loads)
        size = result.size_bytes if isinstance(result, CompressResult | TrainResult) else None
        if scores or serving or size:
            rows.append(
                VariantRow(
                    name=name,
                    scores=scores,
                    model_size_bytes=size,
                    size_fraction=None,
                    recoveries=(),
                    serving=serving,
                )
            )
    return tuple(rows)


def _service_levels(evidence: RunEvidence, spec: AnalyzeSpec | None) -> list[ServiceLevel]:
    """Those of the analysis and of the benchmarks, each once."""
    found = [spec.service_level] if spec and spec.service_level else []
    for name, _ in evidence.of_type(BenchmarkResult):
        asked = evidence.records[name].spec.get("service_level")
        if asked is not None:
            found.append(ServiceLevel.model_validate(asked))
    return list(dict.fromkeys(found))


def _items(evidence: RunEvidence, spec: AnalyzeSpec | None) -> list[Item]:
    """Items that differ, of the evaluations that the analysis compared, found by their samples."""
    if spec is None:
        return []
    by_samples = {result.samples.digest: result for _, result in evidence.of_type(EvaluateResult)}
    outputs: dict[str, Any] = {}
    for name, variant in spec.variants.items():
        for evaluation in variant.evaluations:
            result = by_samples.get(getattr(evaluation.samples, "digest", ""))
            path = evidence.path(result.outputs) if result is not None else None
            if path is not None:
                outputs.setdefault(name, path)
    if spec.baseline not in outputs:
        return []
    return [
        Item(
            scrub(item.task),
            scrub(item.prompt),
            scrub(item.target),
            [Answer(name, scrub(a.text), a.scores) for name, a in item.answers.items()],
        )
        for item in samples.differing(outputs, spec.baseline)
    ]


def _run_part(
    evidence: RunEvidence, facts: Sequence[Fact], prose: Prose | None, items: list[Item]
) -> RunPart:
    report, header = evidence.report, evidence.report.header
    about = {
        "question": header.get("research_question"),
        "hypothesis": header.get("hypothesis"),
        "description": header.get("description"),
        "tags": ", ".join(map(str, header.get("tags") or ())),
        "began": f"{report.started:%Y-%m-%d %H:%M} UTC",
        "took": f"{report.seconds:.1f} s" if report.seconds is not None else "",
    }
    failed = [f"{name}: {step.error}" for name, step in report.steps.items() if step.error]
    return RunPart(
        id=report.id,
        status=report.status.value,
        is_good=report.status is RunStatus.DONE,
        about=[(label, str(scrub(str(text)))) for label, text in about.items() if text],
        problems=[str(scrub(text)) for text in (*failed, *report.problems)],
        verdicts=_verdicts(evidence),
        claims={
            kind.value: [
                Claim(str(scrub(fact.claim)), fact.source, fact.needs_attention) for fact in those
            ]
            for kind, those in by_kind(facts).items()
        },
        prose=list(prose.text.parts()) if prose else [],
        prose_model=prose.model if prose else "",
        items=items,
        steps=_steps(evidence),
        provenance=[
            (label, str(scrub(text))) for label, text in _provenance(evidence).items() if text
        ],
        commands=[str(scrub(command)) for command in _commands(evidence)],
    )


def _verdicts(evidence: RunEvidence) -> list[Promise]:
    report = evidence.report
    gates = [
        Promise(
            name=name,
            state="passed" if gate.passed else gate.verdict.value,
            is_good=gate.passed,
            words="gate",
            details=[
                (c.verdict.value, f"{label}: {c.words}", c.verdict is Verdict.PASSED)
                for label, c in gate.criteria.items()
            ],
        )
        for name, gate in report.gates.items()
    ]
    deliverables = [
        Promise(
            name=name,
            state=found.state.value,
            is_good=found.state is DeliverableState.DELIVERED,
            words=found.validation if name == found.type else f"{found.type}, {found.validation}",
            details=[("", str(scrub(problem)), False) for problem in found.problems],
        )
        for name, found in report.deliverables.items()
    ]
    return [*gates, *deliverables]


def _steps(evidence: RunEvidence) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for name, step in evidence.report.steps.items():
        record = evidence.records.get(name)
        computed = record.provenance.get("duration_s") if record else None
        lines.append(
            (
                name,
                step.kind,
                step.state.value,
                f"{step.seconds:.1f} s" if step.seconds is not None else "",
                f"{computed:.1f} s" if computed is not None else "",
                (step.identity or "")[:DIGEST_CHARACTERS],
                ", ".join(step.upstream),
            )
        )
    return lines


def _provenance(evidence: RunEvidence) -> dict[str, str]:
    """Where the run and its results came from; several machines or commits are all named."""
    report = evidence.report
    facts = [record.provenance for record in evidence.records.values()]

    def each(found: Sequence[str]) -> str:
        return "; ".join(dict.fromkeys(filter(None, found)))

    versions: dict[str, str] = {}
    for fact in facts:
        versions |= fact.get("versions", {})
    return {
        "file": report.file,
        "overrides": ", ".join(report.overrides),
        "changed": ", ".join(change.parameter for change in report.modifications),
        "follows run": report.parent or "",
        "command": shlex.join(map(str, report.provenance.get("argv", ()))),
        "code": each([_commit(fact.get("labwright")) for fact in (report.provenance, *facts)]),
        "host": each([str(fact.get("host", "")) for fact in facts]),
        "hardware": each([_hardware(fact.get("hardware", {})) for fact in facts]),
        "python": each([str(fact.get("python", "")) for fact in facts]),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "seeds": each([_seeds(name, r.provenance) for name, r in evidence.records.items()]),
    }


def _commit(state: Mapping[str, Any] | None) -> str:
    if not state:
        return ""
    commit = str(state["commit"])[:DIGEST_CHARACTERS]
    changes = changes_digest(state)
    return f"{commit} with changes {changes[:DIGEST_CHARACTERS]}" if changes else commit


def _hardware(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    memory = found.get("memory_bytes", 0) / 2**30
    gpus = "".join(f", {gpu}" for gpu in found.get("gpu_models", ()))
    return f"{found.get('cpu_model', '')}, {found.get('num_cpus', '')} CPUs, {memory:.0f} GiB{gpus}"


def _seeds(name: str, provenance: Mapping[str, Any]) -> str:
    seeds = provenance.get("seeds") or {}
    return ", ".join(f"{name}.{field} {seed}" for field, seed in seeds.items())


def _commands(evidence: RunEvidence) -> list[str]:
    """What to type for the same results: the code as it was, then the file with its overrides."""
    report = evidence.report
    commit = (report.provenance.get("labwright") or {}).get("commit")
    lines = [f"git checkout {commit}    # the code of this run"] if commit else []
    overrides = "".join(f" --set {shlex.quote(text)}" for text in report.overrides)
    return [
        *lines,
        f"labwright run {shlex.quote(report.file)}{overrides}",
        f"labwright show {report.id}    # everything that is known of it",
    ]
