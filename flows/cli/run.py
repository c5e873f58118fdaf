"""`labwright run`, `resume` and `validate`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.errors import from_here
from flows.cli.outcome import print_outcome
from flows.cli.terminal import STYLES, stdout_console, watcher_for
from flows.experiment import (
    Plan,
    PlanState,
    RunReport,
    RunStatus,
    StepState,
    Watcher,
    counted,
    find_run,
    load_experiment,
    look_up,
    plan,
    resume_experiment,
    run_experiment,
)
from flows.experiment.plan import runs_every_time
from tasks.errors import Problem, SpecError
from tasks.scrubbing import scrub

EVERY_TIME = "runs every time: says no inputs"


def run(file: Path, overrides: Sequence[str], as_json: bool) -> int:
    """Run a file; returns the exit status."""
    with told_as_json(as_json) as last:
        experiment = load_experiment(file, overrides)
        watchers = [watcher_for(Console(stderr=True)), last]
        return _finish(run_experiment(experiment, watchers), as_json)


def resume(name: str, as_json: bool) -> int:
    """Go on with a run; returns the exit status."""
    with told_as_json(as_json) as last:
        watchers = [watcher_for(Console(stderr=True)), last]
        return _finish(resume_experiment(find_run(name), watchers), as_json)


class LastWord(Watcher):
    """Remembers how the run ended."""

    report: RunReport | None = None

    def ended(self, report: RunReport) -> None:
        self.report = report


@contextmanager
def told_as_json(as_json: bool) -> Iterator[LastWord]:
    """What ends a command before its time is an object on stdout as well, where that is wanted."""
    last = LastWord()
    try:
        yield last
    except Exception as error:
        if as_json:
            print(json.dumps(last.report.summary() if last.report else refusal(error)))
        raise


def refusal(error: Exception) -> dict[str, Any]:
    """The object for what never became a run."""
    is_invalid = isinstance(error, SpecError)
    problems = error.problems if isinstance(error, SpecError) else (error,)
    return {
        "id": None,
        "status": "invalid" if is_invalid else RunStatus.FAILED.value,
        "problems": [scrub(from_here(str(problem))) for problem in problems],
    }


def _finish(running: Coroutine[Any, Any, RunReport], as_json: bool) -> int:
    # Our own table says what Prefect's console lines would; its UI and API logs have them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    report = asyncio.run(running)
    if as_json:
        print(json.dumps(report.summary()))
    else:
        print_outcome(report)
    return report.status.exit_status


def validate(files: Sequence[Path], overrides: Sequence[str]) -> None:
    """Check every file; raises `SpecError` with the problems of all."""
    problems: list[Problem] = []
    for file in files:
        try:
            experiment = load_experiment(file, overrides)
        except SpecError as error:
            problems += error.problems
        else:
            print(f"{file}: sound, {counted(len(experiment.steps), 'step')}")
            for name, step in experiment.steps.items():
                if runs_every_time(step):
                    print(f"  {name}: {EVERY_TIME}; `inputs: {{}}` says that it reads none")
    if problems:
        raise SpecError(problems)


def dry_run(file: Path, overrides: Sequence[str], as_json: bool) -> None:
    """Print what is cached, what would run, and what depends on that."""
    with told_as_json(as_json):
        found = plan(load_experiment(file, overrides), look_up)
    if as_json:
        steps = {
            name: {
                "kind": planned.step.kind,
                "state": planned.state.value,
                "identity": planned.identity,
                "upstream": planned.step.upstream,
                "reason": scrub(planned.reason)
                or (EVERY_TIME if runs_every_time(planned.step) else None),
            }
            for name, planned in found.steps.items()
        }
        print(json.dumps({"file": str(file), "steps": steps}))
        return
    stdout_console().print(plan_table(found))


def plan_table(found: Plan) -> Table:
    """The DAG as a table: each step after those that it waits for."""
    styles = {
        PlanState.CACHED: STYLES[StepState.CACHED],
        PlanState.WILL_RUN: STYLES[StepState.RUNNING],
        PlanState.DEPENDS: STYLES[StepState.WAITING],
        PlanState.HELD_BACK: STYLES[StepState.SKIPPED],
        PlanState.CANNOT_RUN: STYLES[StepState.FAILED],
    }
    table = Table(box=None, pad_edge=False)
    for column in ("step", "kind", "after", "state", "identity"):
        table.add_column(column)
    for name, planned in found.steps.items():
        words = planned.state.value
        if planned.state is PlanState.DEPENDS:
            words = "will run once the steps before it have"
            words += f"; {EVERY_TIME}" if runs_every_time(planned.step) else ""
        elif planned.state is PlanState.WILL_RUN and runs_every_time(planned.step):
            words = EVERY_TIME
        elif planned.reason:
            words = scrub(planned.reason)
        table.add_row(
            Text(name),
            Text(planned.step.kind, style="dim"),
            Text(", ".join(planned.step.upstream)),
            Text(words, style=styles[planned.state]),
            (planned.identity or "")[:12],
        )
    return table
