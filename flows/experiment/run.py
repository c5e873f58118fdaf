"""An experiment from its file to its bundle.

    report = asyncio.run(run_experiment(load_experiment(Path("quickstart.yaml"))))
    report.status, report.bundle

A run whose every step is cached is answered from its plan: no server, no Prefect. Else a flow
awaits the steps, on the API that is configured or on our own server.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
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
)
from flows.experiment.folder import RunFolder
from flows.experiment.lineage import RESOLVED, modifications, parent_of, resolved_of
from flows.experiment.loading import Experiment, ExperimentStep
from flows.experiment.plan import Plan, plan
from flows.experiment.progress import RunState, Watcher
from flows.experiment.record import RunReport, RunStatus, StepReport, StepState
from flows.experiment.signals import cancelled_by_signals
from tasks.errors import Corrupted, SpecError
from tasks.provenance import git_state
from tasks.scrubbing import Scrubber, own_secrets, scrub
from tasks.settings import settings
from tasks.spec import Spec
from tasks.store import Record, open_store


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

    `call` says how steps are called; by default as tasks of a Prefect flow.
    """
    finish_abandoned()
    folder = RunFolder.create()
    with folder.held():
        report = _begin(folder, experiment)
        with RunState.opened(folder, report, watchers) as state:
            return await _conduct(experiment, state, call)


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
            "steps": _waiting(experiment),
            "deliverables": {},
            "problems": (),
        }
        with RunState.opened(run, report.model_copy(update=update), watchers) as state:
            return await _conduct(experiment, state, call)


async def _conduct(experiment: Experiment, state: RunState, call: Call | None) -> RunReport:
    state.begin()
    end: RunStatus | None = None
    try:
        found = plan(experiment, look_up, state.report.id)
        if found.is_fully_cached and _is_intact(experiment, found):
            for name, planned in found.steps.items():
                state.step(name, state=StepState.CACHED, identity=planned.identity, seconds=0.0)
        else:
            await _execute(Execution(experiment, state, settings().max_parallel_steps), state, call)
    except (asyncio.CancelledError, KeyboardInterrupt):
        end = RunStatus.CANCELLED
    finish(state, experiment, end)
    return state.report


async def _execute(execution: Execution, state: RunState, call: Call | None) -> None:
    if call is not None:
        async with cancelled_by_signals():
            await execution.run(call)
        return
    if "prefect" not in sys.modules:
        from flows.server import ensure_server

        ensure_server()
    from flows.experiment.prefect_flow import execute_in_flow

    await execute_in_flow(execution, state)


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


def _begin(folder: RunFolder, experiment: Experiment) -> RunReport:
    """Keep the file as it is now, and find the run that this one follows."""
    file = str(experiment.path)
    scrubber = Scrubber(own_secrets())
    resolved = scrubber.value(experiment.resolved)
    folder.spec.mkdir()
    (folder.spec / SOURCE).write_text(experiment.document.text, encoding="utf-8")
    (folder.spec / RESOLVED).write_text(json.dumps(resolved, indent=1), encoding="utf-8")
    parent = parent_of(file, experiment.header.parent, folder.id)
    before = resolved_of(parent) if parent else None
    return RunReport(
        id=folder.id,
        name=experiment.header.name,
        file=file,
        overrides=tuple(scrubber.command_line(experiment.overrides)),
        header=scrubber.value(experiment.header.model_dump(mode="json")),
        started=datetime.now(UTC),
        parent=parent.id if parent else None,
        modifications=modifications(before, resolved) if before is not None else (),
        steps=_waiting(experiment),
        provenance=scrub(
            {
                "argv": Scrubber(own_secrets()).command_line(sys.argv),
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
        (folder.spec / f"{name}.diff").write_text(scrub(state["diff"]), encoding="utf-8")
    return {key: value for key, value in state.items() if key != "diff"}


def _waiting(experiment: Experiment) -> dict[str, StepReport]:
    return {
        name: StepReport(kind=step.kind, upstream=step.upstream)
        for name, step in experiment.steps.items()
    }
