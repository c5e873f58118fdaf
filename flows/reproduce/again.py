"""The run again: its file as it was kept, an empty store, and every result held against the record.

    found = await reproduce_run(find_run("latest"), ReproductionOptions(only="train"))

Steps without a result in the run are left out. Ctrl-C ends every body, leaves no store behind and
keeps no verdict (`Cancelled`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from flows.compare.surroundings import differences
from flows.experiment import (
    Experiment,
    RunFolder,
    RunReport,
    RunStatus,
    Watcher,
    call_directly,
    run_experiment,
)
from flows.experiment.finish import experiment_of
from flows.experiment.measured import MeasuredStep, measured_step
from flows.reproduce.home import empty_home
from flows.reproduce.inputs import changes_since
from flows.reproduce.judge import TIMING_TOLERANCE, code_differs
from flows.reproduce.record import Likeness, Reproduction, StepReproduction, keep, logs_of
from flows.reproduce.verdicts import Judge
from tasks.errors import LabwrightError, Problem, SpecError, StoreError, nearest
from tasks.store import Store, open_store


class Cancelled(LabwrightError):
    """Somebody stopped a reproduction; nothing of it is kept."""


@dataclass(frozen=True)
class ReproductionOptions:
    """What to do again, and how strictly."""

    only: str | None = None
    """A step: it and what it needs; None is every step."""
    anyway: bool = False
    """Whether to run with inputs that are no longer as they were."""
    keep_store: bool = False
    tolerance: float = TIMING_TOLERANCE
    """Share by which timings may differ."""


async def reproduce_run(
    run: RunFolder,
    options: ReproductionOptions = ReproductionOptions(),
    watchers: Iterable[Watcher] = (),
) -> Reproduction:
    """Do it again and keep the verdict beside the run.

    Raises `SpecError` for a step that there is not, a run without results, and inputs that changed.
    """
    from ulid import ULID

    report = run.read()
    if report is None:
        raise StoreError(f"{run.path} holds no run.json")
    started, name, store = datetime.now(UTC), str(ULID()), open_store()
    experiment = _again(_as_kept(run, report), report, options.only)
    originals, lost = _originals(experiment, report, store)
    changes = await asyncio.to_thread(changes_since, experiment, originals, store)
    if changes and not options.anyway:
        problems = [Problem(change, f"run {run.id}") for change in changes]
        raise SpecError([*problems, Problem("give --anyway to run it with what there is now")])
    with empty_home(name, keep=options.keep_store) as home:
        again = await run_experiment(experiment, watchers, call_directly)
        if again.status is RunStatus.CANCELLED:
            raise Cancelled("the reproduction was stopped; nothing of it is kept")
        stores = (store, open_store())
        judge = Judge(experiment, originals, lost, stores, again, options.tolerance)
        steps = await asyncio.to_thread(judge.steps)
        _keep_logs(steps, RunFolder(home / "runs" / again.id), logs_of(run, name))
        found = Reproduction(
            id=name,
            run=run.id,
            started=started,
            seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
            only=options.only,
            changes=changes,
            surroundings=differences(judge.pairs.values()),
            code_changed=tuple(n for n, pair in judge.pairs.items() if code_differs(pair)),
            steps=steps,
            store=str(home) if options.keep_store else None,
        )
    keep(run, found)
    return found


def _keep_logs(steps: dict[str, StepReproduction], again: RunFolder, to: Path) -> None:
    """What the bodies of failed steps printed; everything else of its home goes with it."""
    for name, step in steps.items():
        logs = again.logs / name
        if step.verdict is Likeness.FAILED and logs.is_dir():
            shutil.copytree(logs, to / name)
            reasons = (*step.reasons, f"logs: {to / name}")
            steps[name] = step.model_copy(update={"reasons": reasons})


def _as_kept(run: RunFolder, report: RunReport) -> Experiment:
    try:
        return experiment_of(run, report)
    except OSError as error:
        raise StoreError(f"the file of run {run.id} cannot be read: {error.strerror}") from error


def _again(experiment: Experiment, report: RunReport, only: str | None) -> Experiment:
    """The steps that had a result, or one of them with what it needs; without deliverables."""
    done = [name for name in experiment.steps if report.steps[name].state.has_result]
    if only is not None and only not in experiment.steps:
        choices = nearest(only, done) or f"; there are {', '.join(done)}"
        raise SpecError([Problem(f"run {report.id} has no step '{only}'{choices}", "--step")])
    wanted = set(done) if only is None else _needed(experiment, only) & set(done)
    if not wanted or (only is not None and only not in wanted):
        what = f"step '{only}'" if only else f"run {report.id}"
        raise SpecError(f"{what} has no result that could be reproduced")
    return replace(
        experiment,
        header=experiment.header.model_copy(update={"parent": None}),
        steps={name: step for name, step in experiment.steps.items() if name in wanted},
        deliverables=(),
    )


def _needed(experiment: Experiment, name: str) -> set[str]:
    needed, pending = set(), [name]
    while pending:
        step = pending.pop()
        needed.add(step)
        pending += [up for up in experiment.steps[step].upstream if up not in needed]
    return needed


def _originals(
    experiment: Experiment, report: RunReport, store: Store
) -> tuple[dict[str, MeasuredStep], dict[str, str]]:
    """What the steps found then, and why that is not known of some."""
    found: dict[str, MeasuredStep] = {}
    lost: dict[str, str] = {}
    for name, step in experiment.steps.items():
        identity = report.steps[name].identity
        try:
            found[name] = measured_step(store, name, step.kind, identity or "")
        except (LabwrightError, ValueError) as error:
            lost[name] = str(error)
    return found, lost
