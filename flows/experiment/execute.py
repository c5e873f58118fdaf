"""Runs the steps of an experiment as their inputs come, independent ones side by side.

A step that fails takes those with it that need its result; the others go on. What a step found is
read back from the store by identity, so that what a run says of a step is what is kept of it.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from flows.experiment.gates import held_back, not_passed
from flows.experiment.plan import spec_for_run
from flows.experiment.progress import RunState, StepWatch
from flows.experiment.record import StepState
from flows.experiment.sound import Experiment, ExperimentStep
from tasks.command import placed
from tasks.errors import LabwrightError, StepFailed
from tasks.observer import observing
from tasks.scrubbing import Scrubber, own_secrets
from tasks.spec import Placement, Result, Spec

Call = Callable[[ExperimentStep, Spec, Placement, Sequence[Any]], Awaitable[Result]]
"""How a step is called: as a Prefect task, or by itself; the last argument is what it waits for."""


async def call_directly(
    step: ExperimentStep, spec: Spec, placement: Placement, upstream: Sequence[Any]
) -> Result:
    """Without Prefect: for tests, and for use inside of other tasks."""
    del upstream
    computed = await step.step.compute(spec, placement)
    result: Result = computed.result
    return result


class Execution:
    """One pass over the steps of an experiment."""

    def __init__(self, experiment: Experiment, state: RunState, max_parallel: int):
        self._experiment = experiment
        self._state = state
        self._slots = asyncio.Semaphore(max_parallel)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._results: dict[str, Result] = {}

    async def run(self, call: Call) -> None:
        """Until every step has ended; cancelling it ends every body before it returns."""
        for name in self._experiment.steps:
            self._tasks[name] = asyncio.create_task(self._step(name, call), name=name)
        try:
            await asyncio.gather(*self._tasks.values())
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @property
    def shortfalls(self) -> list[str]:
        """What the gates say that were not passed."""
        return not_passed(self._results)

    async def _step(self, name: str, call: Call) -> None:
        step = self._experiment.steps[name]
        await asyncio.gather(*(asyncio.shield(self._tasks[up]) for up in step.upstream))
        lost = [up for up in step.upstream if up not in self._results]
        reason = f"skipped: step '{lost[0]}' did not finish" if lost else None
        reason = reason or held_back(step.upstream, self._results)
        if reason is not None:
            self._state.step(name, state=StepState.SKIPPED, error=reason)
            return
        async with self._slots:
            watch = StepWatch(self._state, name)
            try:
                with observing(watch):
                    await self._compute(step, call)
            except asyncio.CancelledError:
                self._state.step(name, state=StepState.CANCELLED, error="stopped while it ran")
                raise
            except Exception as error:  # noqa: BLE001  (whatever ends a step is that step's failure)
                self._state.step(name, state=StepState.FAILED, error=self._reason(name, error))
            else:
                end = StepState.DONE if watch.is_computing else StepState.CACHED
                self._state.step(name, state=end, seconds=round(watch.seconds, 3))

    async def _compute(self, step: ExperimentStep, call: Call) -> None:
        spec = spec_for_run(step.spec(self._results), self._state.report.id)
        identity = await asyncio.to_thread(step.step.identity, spec)
        self._state.step(step.name, identity=identity)
        placement = placed(step.placement, step.document.folder)
        upstream = [self._results[name] for name in step.upstream]
        self._results[step.name] = await call(step, spec, placement, upstream)

    def _reason(self, name: str, error: Exception) -> str:
        """Why, without secrets, and where to look; which step it was, the report says."""
        scrubber = Scrubber(own_secrets())
        if isinstance(error, StepFailed):
            words, label, path = error.reason, "logs", error.logs
        elif isinstance(error, LabwrightError):
            words, label, path = str(error), "", None
        else:  # what nobody foresaw
            words, label = f"{type(error).__name__}: {error}", "traceback"
            path = self._keep(name, scrubber.text("".join(traceback.format_exception(error))))
        return scrubber.text(words) + (f"\n  {label}: {path}" if path else "")

    def _keep(self, name: str, text: str) -> Path | None:
        """Write a traceback to the step's logs, where that can be done."""
        path = self._state.folder.logs / name / "traceback.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:
            return None
        return path
