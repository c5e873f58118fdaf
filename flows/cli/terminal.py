"""A run as the terminal shows it: a live table where there is one, else a line for each change.

Everything here goes to stderr, so that stdout holds only what was asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.experiment.progress import Watcher
from flows.experiment.record import RunReport, StepState, counted

STYLES = {
    StepState.WAITING: "dim",
    StepState.RUNNING: "bold cyan",
    StepState.CACHED: "green",
    StepState.DONE: "green",
    StepState.FAILED: "bold red",
    StepState.SKIPPED: "yellow",
    StepState.CANCELLED: "yellow",
    StepState.KILLED: "red",
}
BAR_WIDTH = 20
FILE_WIDTH = 140
PROGRESS_INTERVAL_S = 20.0  # between two lines of a step's progress, where there is no table
HIDDEN_METRICS = {"step", "time_s", "num_steps", "phase"}


def stdout_console() -> Console:
    """Wide where nobody watches: a table in a file or a pipe is not folded to 80 columns."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=FILE_WIDTH)


def watcher_for(console: Console) -> Watcher:
    """A live table on a terminal, plain lines elsewhere."""
    return LiveTable(console) if console.is_terminal else PlainLines(console)


def progress_words(metrics: dict[str, Any]) -> str:
    """`42 of 300, loss 5.28`"""
    total = metrics.get("num_steps")
    words = [f"{metrics.get('step', 0)} of {total}"] if total else []
    words += [str(metrics["phase"])] if "phase" in metrics else []
    words += [
        f"{name} {value:.4g}"
        for name, value in metrics.items()
        if name not in HIDDEN_METRICS and isinstance(value, int | float)
    ]
    return ", ".join(words[:3])


def duration_words(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def size_words(num_bytes: float) -> str:
    """`403 KiB`, `1.8 MiB`"""
    power = min(3, max(0, int(num_bytes).bit_length() - 1) // 10)
    size = num_bytes / 1024**power
    return f"{size:.{0 if power == 0 or size >= 100 else 1}f} {('B', 'KiB', 'MiB', 'GiB')[power]}"


class PlainLines(Watcher):
    """One line for each step that begins or ends, and now and then how far it is."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        self._console = console
        self._clock = clock
        self._shown: dict[str, StepState] = {}
        self._metrics: dict[str, dict[str, Any]] = {}
        self._told: dict[str, float] = {}  # when a step was last heard of

    def begun(self, report: RunReport) -> None:
        self._say(f"run {report.id} ({report.name}): {counted(len(report.steps), 'step')}")

    def changed(self, report: RunReport, step: str) -> None:
        now = report.steps[step]
        if now.state is self._shown.get(step, StepState.WAITING):
            return
        self._shown[step] = now.state
        self._told[step] = self._clock()
        seconds = f" in {duration_words(now.seconds)}" if now.seconds else ""
        self._say(f"{step}: {now.state.value}{seconds}")
        if now.error:
            self._say("  " + now.error.replace("\n", "\n  "))

    def said(self, message: str) -> None:
        self._say(message)

    def waiting(self, step: str, what: str) -> None:
        self._say(f"{step}: waiting for {what}")

    def progress(self, step: str, metrics: dict[str, Any]) -> None:
        merged = self._metrics[step] = {**self._metrics.get(step, {}), **metrics}
        now = self._clock()
        if now - self._told.setdefault(step, now) < PROGRESS_INTERVAL_S:
            return
        if words := progress_words(merged):
            self._told[step] = now
            self._say(f"{step}: {'step ' if merged.get('num_steps') else ''}{words}")

    def warned(self, step: str, message: str) -> None:
        self._say(f"{step}: warning: {message}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveTable(Watcher):
    """A table that follows the run."""

    def __init__(self, console: Console):
        self._console = console
        self._report: RunReport | None = None
        self._metrics: dict[str, dict[str, Any]] = {}
        self._began: dict[str, float] = {}
        self._waits: dict[str, str] = {}
        self._live = Live(
            console=console, get_renderable=self.table, refresh_per_second=4, transient=False
        )

    def begun(self, report: RunReport) -> None:
        self._report = report
        self._live.start()

    def changed(self, report: RunReport, step: str) -> None:
        self._report = report
        if report.steps[step].state is StepState.RUNNING:
            self._began.setdefault(step, time.monotonic())

    def said(self, message: str) -> None:
        self._console.print(message, style="dim", markup=False, highlight=False)

    def waiting(self, step: str, what: str) -> None:
        self._waits[step] = f"for {what}"

    def progress(self, step: str, metrics: dict[str, Any]) -> None:
        self._metrics[step] = {**self._metrics.get(step, {}), **metrics}

    def warned(self, step: str, message: str) -> None:
        self._console.print(f"{step}: {message}", style="yellow", markup=False)

    def ended(self, report: RunReport) -> None:
        self._report = report

    def closed(self) -> None:
        self._live.stop()

    def table(self) -> Table:
        """The run as it stands now."""
        table = Table(box=None, pad_edge=False)
        for column in ("step", "kind", "state", "time", ""):
            table.add_column(column, justify="right" if column == "time" else "left")
        if self._report is None:
            return table
        table.title = f"{self._report.name}  {self._report.id}"
        for name, step in self._report.steps.items():
            seconds = step.seconds
            if step.state is StepState.RUNNING and name in self._began:
                seconds = time.monotonic() - self._began[name]
            table.add_row(
                Text(name),
                Text(step.kind, style="dim"),
                Text(step.state.value, style=STYLES[step.state]),
                duration_words(seconds),
                Text(self._remark(name)),
            )
        return table

    def _remark(self, name: str) -> str:
        step = self._report.steps[name] if self._report else None
        if step is None or step.error:
            return (step.error or "").splitlines()[0] if step else ""
        if step.state is StepState.WAITING:
            return self._waits.get(name, "")
        metrics = self._metrics.get(name, {})
        if step.state is not StepState.RUNNING or not metrics:
            return ""
        total = metrics.get("num_steps")
        filled = round(BAR_WIDTH * min(1.0, metrics["step"] / total)) if total else 0
        bar = f"{'━' * filled}{'─' * (BAR_WIDTH - filled)} " if total else ""
        return bar + progress_words(metrics)
