"""What Prefect sees of a step: an async task whose state, log lines and artifacts tell its story.

Prefect shows; it does not decide. Nothing of a result goes through Prefect's result storage, and an
API that is slow, gone or out of disk costs a warning in the log, never a result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import httpx
from prefect import Task, get_run_logger
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.states import Completed
from prefect.utilities.engine import link_state_to_task_run_result

from tasks.artifacts import ArtifactKind
from tasks.errors import LabwrightError
from tasks.observer import Observer, observing
from tasks.spec import Placement, Result, Spec
from tasks.store import open_store
from tasks.store.base import Record

if TYPE_CHECKING:
    from tasks.step import Computed, Step

SHOW_TIMEOUT_S = 5.0
SILENCE_S = 60.0  # for which Prefect is not asked again after it did not answer
PROGRESS_INTERVAL_S = 2.0
LINES_PER_S, LINES_AT_ONCE = 20.0, 1000.0  # a progress bar must not fill Prefect's database


def prefect_task(step: Step[Any, Any]) -> Task[[Spec, Placement], Any]:
    """The Prefect task of a step; a hit ends in a state named `Cached`."""

    async def run(spec: Spec, placement: Placement) -> Any:
        view = PrefectView(step.name)
        try:
            with observing(view):
                computed: Computed[Result] = await step.compute(spec, placement)
        finally:
            view.tell_left_out()
        if computed.is_cached:
            message = f"{step.name} {computed.record.identity[:12]} was computed before"
            return Completed(name="Cached", message=message, data=computed.result)
        await view.show_record(computed.record, computed.result)
        return computed.result

    run.__doc__ = step.spec_type.__doc__
    return Task(
        fn=run,
        name=step.name,
        persist_result=False,
        cache_policy=NO_CACHE,
        retries=0,
        log_prints=False,
    )


async def call_task(
    task: Task[Any, Any], spec: Spec, placement: Placement, wait_for: Iterable[Any] | None
) -> Any:
    """The task's result, out of its state if that is `Cached`; waiting for it makes an edge."""
    running: Any = task(spec, placement, wait_for=wait_for, return_state=True)
    state = await running
    result = await state.aresult()
    link_state_to_task_run_result(state, result)
    return result


class PrefectView(Observer):
    """Shows a running step in Prefect's log, and its progress and artifacts in the UI."""

    silent_until: ClassVar[float] = 0.0  # for every step: they ask the same API

    def __init__(self, step: str):
        self._step = step
        self._logger = get_run_logger()
        self._lines = LineBudget(LINES_PER_S, LINES_AT_ONCE)
        self._progress_id: UUID | None = None
        self._progress_shown = 0.0

    def waiting(self, what: str | None) -> None:
        if what is not None:
            self._logger.info("waiting for %s", what)

    def started(self, step: str, identity: str) -> None:
        self._logger.info("%s %s: computing", step, identity[:12])

    def output(self, stream: str, line: str) -> None:  # noqa: ARG002
        if self._lines.take():
            self.tell_left_out()
            self._logger.info("%s", line)

    def tell_left_out(self) -> None:
        """Say how many lines were not shown since the last one that was."""
        if num := self._lines.forget_left_out():
            self._logger.info("[%d lines are not shown here; the step's log has them]", num)

    def warned(self, message: str) -> None:
        self._logger.warning("%s", message)

    async def progress(self, metrics: dict[str, Any]) -> None:
        total = metrics.get("num_steps")
        if not total or time.monotonic() - self._progress_shown < PROGRESS_INTERVAL_S:
            return
        self._progress_shown = time.monotonic()
        await self._show(lambda: self._progress(min(100.0, 100.0 * metrics["step"] / total)))

    async def show_record(self, record: Record, result: Result) -> None:
        """A table of what the step made, its numbers, and a page for its report."""

        async def show_all() -> None:
            reports = [ref for ref in record.artifacts if ref.kind is ArtifactKind.REPORT]
            paths = [open_store().materialize(ref) / "index.html" for ref in reports]
            pages = [self._page(result, path) for path in paths]
            progress = [] if self._progress_id is None else [self._progress(100.0)]
            await asyncio.gather(self._table(record), *pages, *progress)

        await self._show(show_all)

    async def _progress(self, percent: float) -> None:
        if self._progress_id is None:
            self._progress_id = await acreate_progress_artifact(
                progress=percent, key=f"{self._step}-progress", description=self._step
            )
        else:
            await aupdate_progress_artifact(self._progress_id, progress=percent)

    async def _table(self, record: Record) -> None:
        files: list[dict[str, Any]] = [
            {"artifact": ref.name, "kind": ref.kind, "bytes": ref.size_bytes, "sha256": ref.digest}
            for ref in record.artifacts
        ]
        numbers = [
            {"artifact": name, "kind": "number", "value": value}
            for name, value in record.result.items()
            if isinstance(value, int | float | str)
        ]
        await acreate_table_artifact(
            table=[*files, *numbers],
            key=f"{self._step}-artifacts",
            description=f"{self._step} {record.identity[:12]}",
        )

    async def _page(self, result: Result, path: Path) -> None:
        await acreate_markdown_artifact(
            markdown=report_markdown(result, path), key=f"{self._step}-report"
        )

    async def _show(self, call: Callable[[], Awaitable[None]]) -> None:
        """What Prefect cannot show costs one warning and a few seconds, and is not lost."""
        if time.monotonic() < PrefectView.silent_until:
            return
        try:
            async with asyncio.timeout(SHOW_TIMEOUT_S):
                await call()
        except (httpx.HTTPError, PrefectException, LabwrightError, OSError, TimeoutError) as error:
            PrefectView.silent_until = time.monotonic() + SILENCE_S
            self.warned(f"Prefect could not show this step: {error!r}; the step goes on")


def report_markdown(result: Result, path: Path) -> str:
    """The result's table, and where its report lies: no browser opens a local file from a page."""
    table = result.overview()
    lines = []
    if table is not None:
        headers, rows = table
        lines = [headers, ["---"] * len(headers), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    shown = "".join(f"| {' | '.join(line)} |\n" for line in cells)
    return f"{shown}\nThe report, on the machine that made it:\n\n    {path}\n"


class LineBudget:
    """Lets so many lines a second through, and counts the others."""

    def __init__(self, per_s: float, at_once: float):
        self._per_s = per_s
        self._at_once = self._room = at_once
        self._looked_at = time.monotonic()
        self._num_left_out = 0

    def take(self) -> bool:
        """Whether one more line may be shown."""
        now = time.monotonic()
        gained = (now - self._looked_at) * self._per_s
        self._room = min(self._at_once, self._room + gained)
        self._looked_at = now
        if self._room < 1.0:
            self._num_left_out += 1
            return False
        self._room -= 1.0
        return True

    def forget_left_out(self) -> int:
        """How many were not let through since the last call."""
        num, self._num_left_out = self._num_left_out, 0
        return num
