"""A run while it happens: each change goes to run.json, to the journal, and to whoever watches.

state = RunState(folder, report, [terminal])
state.step("train", state=StepState.RUNNING, identity="…")
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.experiment.folder import RunFolder
from flows.experiment.record import RunReport, RunStatus, StepState
from tasks.errors import Corrupted
from tasks.observer import GOING_ON, WorkClock
from tasks.store.journal import Journal


class Watcher:
    """Shows a run; does nothing unless overridden."""

    def begun(self, report: RunReport) -> None:
        """The run has an id."""

    def said(self, message: str) -> None:
        """Something takes a while, or is otherwise than expected, outside of the steps."""

    def changed(self, report: RunReport, step: str) -> None:
        """A step's state is another."""

    def waiting(self, step: str, what: str) -> None:
        """A step is ready, and waits for something of the machine's."""

    def progress(self, step: str, metrics: dict[str, Any]) -> None:
        """The newest numbers of a body."""

    def warned(self, step: str, message: str) -> None:
        """Something was wrong and was dealt with."""

    def ended(self, report: RunReport) -> None:
        """Everything is written."""

    def closed(self) -> None:
        """Nothing more will be told, whether the run could be ended or not."""


class RunState:
    """The one owner of a run's report while the run goes on."""

    def __init__(
        self,
        folder: RunFolder,
        report: RunReport,
        journal: Journal,
        watchers: Iterable[Watcher] = (),
    ):
        self.folder = folder
        self.report = report
        self.watchers = tuple(watchers)
        self._journal = journal
        self._clocks: dict[str, float] = {}

    @classmethod
    @contextmanager
    def opened(
        cls, folder: RunFolder, report: RunReport, watchers: Iterable[Watcher] = ()
    ) -> Iterator[RunState]:
        """With the journal open; whoever calls this holds the folder's lock."""
        journal, problems = _open_journal(folder)
        state = cls(folder, report, journal, watchers)
        with journal:
            for problem in problems:
                state.note(problem)
            try:
                yield state
            finally:
                for watcher in state.watchers:
                    watcher.closed()

    def begin(self) -> None:
        """Write down that there is a run."""
        self.folder.write(self.report)
        self._tell("started", run=self.report.id)
        for watcher in self.watchers:
            watcher.begun(self.report)

    def note(self, problem: str) -> None:
        """Something went wrong that is no step's."""
        problems = (*self.report.problems, problem)
        self.report = self.report.model_copy(update={"problems": problems})

    def say(self, message: str) -> None:
        """Tell who watches; nothing of it is kept."""
        for watcher in self.watchers:
            watcher.said(message)

    def warn(self, step: str, message: str) -> None:
        """Something was wrong with a step and was dealt with."""
        self._tell("warned", step=step, message=message)
        for watcher in self.watchers:
            watcher.warned(step, message)

    def wait(self, step: str, what: str) -> None:
        """A step cannot work yet."""
        self._tell("waiting", step=step, what=what)
        for watcher in self.watchers:
            watcher.waiting(step, what)

    def _tell(self, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._journal.append({"time": now, "event": event, **values})

    def step(self, name: str, **changes: Any) -> None:
        """Change what is known of a step; a new state stops or starts its clock."""
        before = self.report.steps[name]
        state = changes.get("state", before.state)
        if state is StepState.RUNNING:
            self._clocks.setdefault(name, time.monotonic())
        elif state is not before.state and name in self._clocks:
            changes["seconds"] = round(time.monotonic() - self._clocks[name], 3)
        steps = {**self.report.steps, name: before.model_copy(update=changes)}
        self.report = self.report.model_copy(update={"steps": steps})
        self.folder.write(self.report)
        if state is not before.state:
            now = steps[name]
            self._tell(
                state.value, step=name, identity=now.identity, seconds=now.seconds, error=now.error
            )
        for watcher in self.watchers:
            watcher.changed(self.report, name)

    def close_steps(self, why: str) -> None:
        """What was not begun when the run ended never will be."""
        for name, step in self.report.steps.items():
            if step.state in (StepState.WAITING, StepState.RUNNING):
                self.step(name, state=StepState.CANCELLED, error=why or None)

    def end(self, report: RunReport) -> None:
        """The last word: run.json is replaced after everything that it speaks of exists."""
        self.report = report
        self._tell("ended", status=report.status.value)
        self.folder.write(report)
        self.folder.release(may_resume=report.status is not RunStatus.DONE)
        for watcher in self.watchers:
            watcher.ended(report)


def _open_journal(folder: RunFolder) -> tuple[Journal, list[str]]:
    """The journal; a damaged one is put aside for whoever wants to look, and a new one begun."""
    try:
        return Journal.open(folder.journal), []
    except Corrupted as error:
        aside = folder.journal.with_name("journal.damaged.jsonl")
        folder.journal.replace(aside)
        return Journal.open(folder.journal), [f"{error}; it lies in {aside.name}"]


class StepWatch(WorkClock):
    """Hears a step and tells its run."""

    def __init__(self, state: RunState, name: str):
        super().__init__()
        self.log_folder: Path | None = state.folder.logs / name
        self.is_computing = False
        self._state = state
        self._name = name

    def waiting(self, what: str | None) -> None:
        super().waiting(what)
        if what is not None:
            self._state.wait(self._name, what)

    def started(self, step: str, identity: str) -> None:  # noqa: ARG002
        self.is_computing = True
        self._state.step(self._name, state=StepState.RUNNING, identity=identity)

    def output(self, stream: str, line: str) -> None:  # noqa: ARG002
        if line.startswith(GOING_ON):
            self._state.say(f"{self._name}: {line}")

    async def progress(self, metrics: dict[str, Any]) -> None:
        for watcher in self._state.watchers:
            watcher.progress(self._name, metrics)

    def warned(self, message: str) -> None:
        self._state.warn(self._name, message)
