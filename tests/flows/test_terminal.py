"""What a person sees of a run: a table that follows it on a terminal, lines everywhere else."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from flows.cli.terminal import LiveTable, PlainLines, watcher_for
from flows.experiment.progress import Watcher
from flows.experiment.record import RunReport, StepReport, StepState

WIDTH = 100


class Screen:
    """A console whose text can be read back."""

    def __init__(self, is_terminal: bool):
        self._file = io.StringIO()
        self.console = Console(file=self._file, force_terminal=is_terminal, width=WIDTH)

    def shown(self, watcher: Watcher) -> str:
        """The table as it stands now, or all lines so far, without colours."""
        if not isinstance(watcher, LiveTable):
            return self._file.getvalue()
        paper = Console(file=io.StringIO(), width=WIDTH)
        paper.print(watcher.table())
        return paper.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def report_of(**steps: StepReport) -> RunReport:
    return RunReport(
        id="01K", name="chain", file="chain.yaml", started=datetime.now(UTC), steps=steps
    )


def row(shown: str, step: str) -> str:
    (line,) = [line for line in shown.splitlines() if line.startswith(step)]
    return line


def follow(watcher: Watcher) -> None:
    """A run of three steps up to where the second is half-way."""
    waiting = report_of(
        prepare=StepReport(kind="prepare"),
        learn=StepReport(kind="train"),
        measure=StepReport(kind="benchmark"),
    )
    watcher.begun(waiting)
    report = with_step(waiting, "prepare", state=StepState.CACHED, seconds=0.04)
    watcher.changed(report, "prepare")
    report = with_step(report, "learn", state=StepState.RUNNING)
    watcher.changed(report, "learn")
    watcher.progress("learn", {"step": 50, "num_steps": 100, "loss": 2.345678, "time_s": 3.0})
    watcher.waiting("measure", "the other steps of this machine to end, as it measures time")


def with_step(report: RunReport, name: str, **changes: object) -> RunReport:
    step = report.steps[name].model_copy(update=changes)
    return report.model_copy(update={"steps": {**report.steps, name: step}})


@pytest.fixture
def screen() -> Screen:
    return Screen(is_terminal=True)


def test_the_table_shows_every_step_with_its_state_time_and_progress(screen: Screen) -> None:
    table = watcher_for(screen.console)
    assert isinstance(table, LiveTable)
    try:
        follow(table)
        shown = screen.shown(table)
    finally:
        table.closed()
    assert "chain  01K" in shown
    assert row(shown, "prepare").split() == ["prepare", "prepare", "cached", "0.0", "s"]
    learning = row(shown, "learn")
    assert "running" in learning
    assert f"{'━' * 10}{'─' * 10} 50 of 100, loss 2.346" in learning
    assert "waiting" in row(shown, "measure")
    assert "for the other steps of this machine to end" in row(shown, "measure")


def test_the_table_says_why_a_step_failed_in_one_line(screen: Screen) -> None:
    table = LiveTable(screen.console)
    failed = StepReport(
        kind="train", state=StepState.FAILED, seconds=75.0, error="diverged [at 3]\n  logs: x"
    )
    try:
        table.begun(report_of(learn=failed))
        line = row(screen.shown(table), "learn")
    finally:
        table.closed()
    assert line.split(maxsplit=3)[:3] == ["learn", "train", "failed"]
    assert "1 min 15 s" in line
    assert line.rstrip().endswith("diverged [at 3]")


def test_the_table_is_drawn_on_the_terminal_and_stays_there_at_the_end(screen: Screen) -> None:
    table = LiveTable(screen.console)
    follow(table)
    table.closed()
    drawn = screen.console.file.getvalue()  # type: ignore[attr-defined]
    assert "prepare" in drawn
    assert "50 of 100" in drawn


def test_elsewhere_progress_is_a_line_every_twenty_seconds_and_no_more() -> None:
    screen = Screen(is_terminal=False)
    now = 100.0
    lines = PlainLines(screen.console, clock=lambda: now)
    waiting = report_of(learn=StepReport(kind="train"))
    lines.begun(waiting)
    lines.changed(with_step(waiting, "learn", state=StepState.RUNNING), "learn")
    for done in range(1, 1001):
        now += 0.0625
        lines.progress("learn", {"step": done, "num_steps": 1000, "loss": 3.14159})
    assert screen.shown(lines).splitlines()[1:] == [
        "learn: running",
        "learn: step 320 of 1000, loss 3.142",
        "learn: step 640 of 1000, loss 3.142",
        "learn: step 960 of 1000, loss 3.142",
    ]


def test_elsewhere_each_change_is_a_line_and_progress_is_none_at_first() -> None:
    screen = Screen(is_terminal=False)
    lines = watcher_for(screen.console)
    assert isinstance(lines, PlainLines)
    follow(lines)
    assert screen.shown(lines).splitlines() == [
        "run 01K (chain): 3 steps",
        "prepare: cached in 0.0 s",
        "learn: running",
        "measure: waiting for the other steps of this machine to end, as it measures time",
    ]
