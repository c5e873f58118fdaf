"""An experiment from its file to its bundle.

    report = asyncio.run(run_experiment(load_experiment(Path("quickstart.yaml"))))
    report.status, report.bundle

A run whose every step is cached is answered from its plan, and starts no server. Else a flow
awaits the steps, on the API that is configured or on our own server.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.experiment.execute import Call, Execution
from flows.experiment.finish import (
    SOURCE,
    artifacts_to_read,
    experiment_of,
    finish,
    finish_abandoned,
    typed_scrubber,
)
from flows.experiment.folder import RunFolder
from flows.experiment.lineage import RESOLVED, modifications, parent_of, resolved_of
from flows.experiment.plan import Plan, PlanState, plan
from flows.experiment.progress import RunState, Watcher
from flows.experiment.record import RunReport, RunStatus, StepReport, StepState
from flows.experiment.shown import show_cached
from flows.experiment.signals import cancelled_by_signals
from flows.experiment.sound import Experiment, ExperimentStep
from tasks.errors import Corrupted, LabwrightError, SpecError
from tasks.provenance import git_state
from tasks.scrubbing import scrub
from tasks.settings import settings
from tasks.spec import Spec
from tasks.store import Record, open_store
from tasks.store.failures import in_words
from tasks.store.files import write_durably

NOT_STARTED = {
    RunStatus.CANCELLED: "not started: the run was cancelled",
    RunStatus.FAILED: "not started: the run ended with an error",
}


def look_up(step: ExperimentStep, spec: Spec) -> tuple[str, Record | None]:
    """The identity of a step, and its record; one that is damaged is none (its step reports it)."""
    store = open_store()
    identity = step.step.identity(spec, store)
    try:
        return identity, store.read_record(step.step.name, identity)
    except Corrupted:
        return identity, None


async def run_experiment(
    experiment: Experiment, watchers: Iterable[Watcher] = (), call: Call | None = None
) -> RunReport:
    """Run, and report; errors of steps are in the report, cancellation ends in it too.

    `call` says how steps are called; by default as tasks of a Prefect flow. What goes wrong outside
    of the steps ends the run, too, and is raised once everything is written.
    """
    finish_abandoned()
    parent = _parent_of(experiment)
    folder = RunFolder.create()
    try:
        with folder.held(wait=True):
            report = _begin(folder, experiment, parent)
            with RunState.opened(folder, report, watchers) as state:
                return await _conduct(experiment, state, call)
    finally:
        folder.discard_if_empty()


async def resume_experiment(
    run: RunFolder, watchers: Iterable[Watcher] = (), call: Call | None = None
) -> RunReport:
    """Go on with a run that did not finish, under its id and with its file as it was."""
    finish_abandoned()
    with run.held() as is_mine:
        report = run.read() if is_mine else None
        if report is None:
            raise SpecError(f"run {run.id} is still going on")
        if report.status is RunStatus.DONE:
            run.release()
            raise SpecError(f"run {run.id} is done; type: labwright run {report.file}")
        experiment = experiment_of(run, report)
        update = {
            "status": RunStatus.RUNNING,
            "resumed": datetime.now(UTC),
            "steps": _waiting(experiment),
            "deliverables": {},
            "gates": {},
            "problems": (),
        }
        with RunState.opened(run, report.model_copy(update=update), watchers) as state:
            return await _conduct(experiment, state, call)


async def _conduct(experiment: Experiment, state: RunState, call: Call | None) -> RunReport:
    end: RunStatus | None = None
    failure: Exception | None = None
    try:
        state.begin()
        async with cancelled_by_signals():
            await _answer(experiment, state, call)
    except (asyncio.CancelledError, KeyboardInterrupt):
        end = RunStatus.CANCELLED
    except Exception as error:  # noqa: BLE001  (raised again, once the run has its end)
        end, failure = RunStatus.FAILED, error
        is_ours = isinstance(error, LabwrightError)
        state.note(scrub(str(error) if is_ours else f"{type(error).__name__}: {error}"))
    try:
        state.close_steps(NOT_STARTED.get(end, "") if end else "")
        finish(state, experiment, end)
    except Exception as error:
        if failure is None:
            raise  # else the first reason is the better one: a full disk was full before
        failure.add_note(scrub(f"nor could the run be finished: {type(error).__name__}: {error}"))
    if failure is not None:
        raise failure
    return state.report


async def _answer(experiment: Experiment, state: RunState, call: Call | None) -> None:
    """From the plan if that says it all, else by running the steps."""
    found = await asyncio.to_thread(plan, experiment, look_up, state.report.id)
    if found.is_fully_cached and await asyncio.to_thread(_is_intact, experiment, found):
        for name, planned in found.steps.items():
            if planned.state is PlanState.HELD_BACK:
                state.step(name, state=StepState.SKIPPED, error=planned.reason)
                continue
            state.step(name, state=StepState.CACHED, identity=planned.identity, seconds=0.0)
        problem = await asyncio.to_thread(show_cached, state.report) if call is None else None
        if problem:
            state.note(problem)
        return
    execution = Execution(experiment, state, settings().max_parallel_steps)
    if call is not None:
        await execution.run(call)
        return
    if not _is_in_flow():
        await _find_server(state)
    from flows.experiment.prefect_flow import execute_in_flow

    await execute_in_flow(execution, state)


def _is_in_flow() -> bool:
    """Whether a flow of the caller's runs already, on whatever API that may be."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


async def _find_server(state: RunState) -> None:
    """Start ours if there is no other; a run that is stopped meanwhile leaves no half of one."""
    from flows.server import ensure_server, port_words, will_start

    is_starting = await asyncio.to_thread(will_start)
    if is_starting:
        state.say("starting the Prefect server …")
    is_stopped = threading.Event()
    try:
        await asyncio.to_thread(ensure_server, lambda: not is_stopped.is_set())
    finally:
        is_stopped.set()
    if is_starting and (words := port_words()):
        state.say(words)


def _is_intact(experiment: Experiment, found: Plan) -> bool:
    """Whether what the end of the run reads is as it was; its step says what is not."""
    store = open_store()
    records = {name: planned.record for name, planned in found.steps.items() if planned.record}
    try:
        for ref in artifacts_to_read(experiment, records):
            store.verify(ref)
    except Corrupted:
        return False
    return True


def _parent_of(experiment: Experiment) -> RunFolder | None:
    """The run that this one follows; `SpecError` with its place for an id that is none."""
    try:
        return parent_of(str(experiment.path), experiment.header.parent)
    except SpecError as error:
        problem = experiment.document.problem(("experiment", "parent"), str(error))
        raise SpecError([problem]) from error


def _begin(folder: RunFolder, experiment: Experiment, parent: RunFolder | None) -> RunReport:
    """Keep the file as it is now, and what there is to say of it before anything runs."""
    scrubber = typed_scrubber(experiment)
    resolved = scrubber.value(experiment.resolved)
    with in_words("write", folder.spec, folder.path):
        folder.spec.mkdir()
        write_durably(folder.spec / SOURCE, experiment.document.text.encode(), 0o600)
        write_durably(folder.spec / RESOLVED, json.dumps(resolved, indent=1).encode())
        folder.keep_overrides(experiment.overrides)
    before = resolved_of(parent) if parent else None
    return RunReport(
        id=folder.id,
        name=experiment.header.name,
        file=str(experiment.path),
        overrides=tuple(scrubber.command_line(experiment.overrides)),
        header=scrubber.value(experiment.header.model_dump(mode="json")),
        started=datetime.now(UTC),
        parent=parent.id if parent else None,
        modifications=modifications(before, resolved) if before is not None else (),
        steps=_waiting(experiment),
        provenance=scrub(
            {
                "argv": scrubber.command_line(sys.argv),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "labwright": _keep_code_state(folder, "labwright", Path(__file__).parent),
                "project": _keep_code_state(folder, "project", experiment.path.parent),
            }
        ),
    )


def _keep_code_state(folder: RunFolder, name: str, checkout: Path) -> dict[str, Any] | None:
    """Commit and digest of the uncommitted changes; the changes themselves lie beside the spec."""
    state = git_state(checkout)
    if state is None:
        return None
    if "diff" in state:
        file = folder.spec / f"{name}.diff"
        with in_words("write", file, folder.path):
            file.write_text(scrub(state["diff"]), encoding="utf-8")
    return {key: value for key, value in state.items() if key != "diff"}


def _waiting(experiment: Experiment) -> dict[str, StepReport]:
    return {
        name: StepReport(kind=step.kind, upstream=step.upstream)
        for name, step in experiment.steps.items()
    }
