"""The end of a run, however it came: deliverables checked, logs and report gathered, bundle made.

A run whose process was killed is finished by the next command that looks at runs; the lock of its
folder sees to it that only one does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.experiment.bundle import make_bundle
from flows.experiment.checks import Evidence, Missing, check
from flows.experiment.deliverables import ARTIFACT_FIELDS, FilePromise
from flows.experiment.folder import RunFolder, unfinished_runs
from flows.experiment.gates import gates_of
from flows.experiment.loading import compile_experiment
from flows.experiment.progress import RunState
from flows.experiment.record import (
    DeliverableReport,
    RunReport,
    RunStatus,
    StepState,
    status_of,
)
from flows.experiment.sound import Experiment
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.body import METRICS_FILE
from tasks.documents import Document, parse_yaml
from tasks.errors import LabwrightError, SpecError
from tasks.scrubbing import Scrubber, own_secrets, scrub, typed_secrets
from tasks.spec import Result
from tasks.store import Record, open_store

SOURCE = "experiment.yaml"
LOGGER = logging.getLogger(__name__)


def finish(
    state: RunState,
    experiment: Experiment | None,
    end: RunStatus | None = None,
    at: datetime | None = None,
) -> None:
    """Write everything that a run leaves; `end` is a status that the steps cannot tell.

    `at` is when the run ended, if that is not now.
    """
    problems = list(state.report.problems)

    def attempt(what: str, act: Callable[[], Any]) -> Any:
        """What cannot be done is said in the report; the rest is done all the same."""
        try:
            return act()
        except (LabwrightError, OSError, ValueError, KeyError) as error:
            problems.append(scrub(f"{what}: {error}"))
            return None

    records = attempt("results", lambda: _records(state.report)) or {}
    scrubber = typed_scrubber(experiment)
    attempt("logs", lambda: _gather_logs(state, records, scrubber))
    page = attempt("report", lambda: _gather_page(state.folder, records))
    deliverables: dict[str, DeliverableReport] = {}
    if experiment is not None:
        deliverables = attempt("deliverables", lambda: _check(experiment, records)) or {}
    gates = attempt("gates", lambda: gates_of(records)) or {}
    at = at or datetime.now(UTC)
    sitting = at - (state.report.resumed or state.report.started)
    report = state.report.model_copy(
        update={
            "deliverables": deliverables,
            "gates": gates,
            "status": end or status_of(state.report, deliverables, gates),
            "ended": at,
            "seconds": round((state.report.seconds or 0.0) + sitting.total_seconds(), 3),
            "report": str(page) if page else None,
            "bundle": str(state.folder.bundle),
            "problems": tuple(problems),
        }
    )
    if attempt("bundle", lambda: _bundle(state.folder, report, experiment, records)) is None:
        report = report.model_copy(update={"bundle": None, "problems": tuple(problems)})
    state.end(report)


def finish_abandoned() -> list[RunReport]:
    """Finish the runs whose processes died without a word; returns what became of them.

    One that cannot be finished is warned of, and in nobody's way.
    """
    finished = []
    for folder in unfinished_runs():
        try:
            report = _finish_if_dead(folder)
        except (LabwrightError, OSError) as error:
            LOGGER.warning("run %s cannot be finished: %s", folder.id, error)
            continue
        finished += [report] if report else []
    return finished


def _finish_if_dead(folder: RunFolder) -> RunReport | None:
    with folder.held() as is_mine:
        report = folder.read() if is_mine else None
        if report is None or report.status is not RunStatus.RUNNING:
            return None
        died = _last_sign_of_life(folder, report)
        with RunState.opened(folder, report) as state:
            for name, step in report.steps.items():
                if step.state in (StepState.WAITING, StepState.RUNNING):
                    state.step(name, state=StepState.KILLED, error="the run was killed")
            experiment, problem = _experiment_or_why(folder, report)
            if problem:
                state.note(f"deliverables were not checked: {problem}")
            finish(state, experiment, RunStatus.KILLED, died)
            return state.report


def _last_sign_of_life(folder: RunFolder, report: RunReport) -> datetime:
    """When a killed run, or what it had started, last wrote something."""
    files = [folder.report_file, folder.journal]
    store = open_store()
    for step in report.steps.values():
        if step.identity and not step.state.has_result and store.has_staging(step.identity):
            files += store.staging(step.identity).rglob("*")
    times = [report.resumed or report.started]
    for file in files:
        with contextlib.suppress(OSError):
            times.append(datetime.fromtimestamp(file.stat().st_mtime, UTC))
    return max(times)


def _check(experiment: Experiment, records: dict[str, Record]) -> dict[str, DeliverableReport]:
    evidence = _evidence(experiment, records)
    return {promise.label: check(promise, evidence) for promise in experiment.deliverables}


def experiment_of(folder: RunFolder, report: RunReport) -> Experiment:
    """The experiment as it was when the run began; raises `SpecError` if it holds no more."""
    text = (folder.spec / SOURCE).read_text(encoding="utf-8")
    value, marks = parse_yaml(text, report.file)
    typed = folder.overrides()
    if len(typed) != len(report.overrides):
        raise SpecError(f"{folder.overrides_file} is gone, with what was given by --set")
    return compile_experiment(Document(Path(report.file), text, value, marks), typed)


def _experiment_or_why(folder: RunFolder, report: RunReport) -> tuple[Experiment | None, str]:
    try:
        return experiment_of(folder, report), ""
    except (LabwrightError, OSError) as error:
        return None, str(error)


def _records(report: RunReport) -> dict[str, Record]:
    store = open_store()
    found = {}
    for name, step in report.steps.items():
        if step.state.has_result and step.identity is not None:
            record = store.read_record(step.kind, step.identity)
            if record is not None:
                found[name] = record
    return found


def _evidence(experiment: Experiment, records: dict[str, Record]) -> Evidence:
    results: dict[str, Result] = {
        name: experiment.steps[name].step.result(record) for name, record in records.items()
    }
    return Evidence(results, open_store().materialize, experiment.path.parent)


def _gather_logs(state: RunState, records: dict[str, Record], scrubber: Scrubber) -> None:
    """Logs of cached steps come from their records, those of killed ones from where they worked.

    Nobody has scrubbed what a killed step left. Not known here is a secret that only the killed
    process had in its environment, unless it has the form of one.
    """
    store = open_store()
    for name, step in state.report.steps.items():
        target = state.folder.logs / name
        record = records.get(name)
        if record is not None and record.logs is not None and not target.exists():
            _copy(store.materialize(record.logs), target, scrubber.copy)
        elif step.state is not StepState.KILLED or step.identity is None:
            continue
        elif store.has_staging(step.identity):
            staging = store.staging(step.identity)
            _copy(staging / "logs", target, scrubber.copy)
            metrics = staging / "out" / METRICS_FILE
            if metrics.is_file() and not metrics.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
                scrubber.copy(metrics, target / METRICS_FILE)


def _gather_page(folder: RunFolder, records: dict[str, Record]) -> Path | None:
    """Copy the report of the last step that made one; returns its page."""
    reports = [
        ref
        for record in records.values()
        for ref in record.artifacts
        if ref.kind is ArtifactKind.REPORT
    ]
    if not reports:
        return None
    shutil.rmtree(folder.page, ignore_errors=True)
    _copy(open_store().materialize(reports[-1]), folder.page)
    return folder.page / "index.html"


def _copy(
    source: Path, target: Path, copy: Callable[[Path, Path], object] = shutil.copyfile
) -> None:
    """Copy the files of a folder; what is kept is read-only, the copy is the user's."""
    for file in source.rglob("*"):
        if file.is_file():
            to = target / file.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            copy(file, to)


def _bundle(
    folder: RunFolder,
    report: RunReport,
    experiment: Experiment | None,
    records: dict[str, Record],
) -> Any:
    """Deliverables, logs, spec, provenance, report; run.json as it will stand."""
    members: dict[str, Path | bytes] = {"run.json": report.model_dump_json(indent=1).encode()}
    for name, part in (("logs", folder.logs), ("report", folder.page)):
        if part.is_dir():
            members[name] = part
    for file in sorted(folder.spec.glob("*")):
        members[f"spec/{file.name}"] = file
    source = folder.spec / SOURCE
    if source.exists():  # as it was typed for `resume`, without secrets for everybody else
        text = source.read_text(encoding="utf-8")
        members[f"spec/{SOURCE}"] = typed_scrubber(experiment).text(text).encode()
    if folder.journal.exists():
        members["journal.jsonl"] = folder.journal
    for name, record in records.items():
        document = scrub(record.model_dump(mode="json"))
        members[f"provenance/{name}.json"] = json.dumps(document, indent=1).encode()
    for promise in experiment.deliverables if experiment else ():
        if isinstance(promise, FilePromise):
            found = report.deliverables.get(promise.label)
            if found is not None and found.path is not None:
                name = f"deliverables/{promise.label}{_suffix(promise, found.path)}"
                members[name] = Path(found.path)
    return make_bundle(folder.bundle, members, report.id)


def typed_scrubber(experiment: Experiment | None) -> Scrubber:
    """Knows the secrets of this process, and what a file holds under a secret-looking key."""
    typed = typed_secrets(experiment.resolved) if experiment is not None else frozenset()
    return Scrubber(own_secrets() | typed)


def _suffix(promise: FilePromise, path: str) -> str:
    """`/name` for a file that has a name of its own, nothing for a folder."""
    if Path(path).is_dir():
        return ""
    return f"/{Path(promise.path or path).name}"


def artifacts_to_read(experiment: Experiment, records: dict[str, Record]) -> list[ArtifactRef]:
    """What the end of a run will read of cached results: verified before they count as cached."""
    evidence = _evidence(experiment, records)
    found = []
    for promise in experiment.deliverables:
        for field in ARTIFACT_FIELDS:
            reference = getattr(promise, field, None)
            if reference is None:
                continue
            with contextlib.suppress(Missing):  # its check will say so
                value = evidence.value(reference)
                found += [value] if isinstance(value, ArtifactRef) else []
    for record in records.values():
        found += [ref for ref in record.artifacts if ref.kind is ArtifactKind.REPORT]
        found += [record.logs] if record.logs else []
    return found
