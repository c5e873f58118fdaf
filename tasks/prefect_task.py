"""What Prefect sees of a step: an async task whose state, log lines and artifacts tell its story.

Prefect shows; it does not decide. Nothing of a result goes through Prefect's result storage, and an
API that is slow, gone or out of disk costs a warning in the log, never a result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import httpx
from prefect import Task, get_run_logger
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.states import Completed
from prefect.utilities.engine import link_state_to_task_run_result

from tasks.artifacts import ArtifactKind
from tasks.observer import Observer, observing
from tasks.spec import Placement, Result, Spec
from tasks.store import open_store
from tasks.store.base import Record

if TYPE_CHECKING:
    from tasks.step import Computed, Step

SHOW_TIMEOUT_S = 5.0
PROGRESS_INTERVAL_S = 2.0


def prefect_task(step: Step[Any, Any]) -> Task[[Spec, Placement], Any]:
    """The Prefect task of a step; a hit ends in a state named `Cached`."""

    async def run(spec: Spec, placement: Placement) -> Any:
        view = PrefectView(step.name)
        with observing(view):
            computed: Computed[Result] = await step.compute(spec, placement)
        if computed.is_cached:
            message = f"{step.name} {computed.record.identity[:12]} was computed before"
            return Completed(name="Cached", message=message, data=computed.result)
        await view.show_record(computed.record)
        return computed.result

    run.__doc__ = step.spec_type.__doc__
    return Task(
        fn=run,
        name=step.name,
        persist_result=False,
        cache_policy=NO_CACHE,
        retries=0,
        # The spec may hold local paths and lists of artifacts: shown by the record, not by Prefect.
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

    def __init__(self, step: str):
        self._step = step
        self._logger = get_run_logger()
        self._progress_id: Any = None
        self._progress_shown = 0.0
        self._api_failed = False

    def started(self, step: str, identity: str) -> None:
        self._logger.info("%s %s: computing", step, identity[:12])

    def output(self, stream: str, line: str) -> None:  # noqa: ARG002
        self._logger.info("%s", line)

    def warned(self, message: str) -> None:
        self._logger.warning("%s", message)

    async def progress(self, metrics: dict[str, Any]) -> None:
        total = metrics.get("num_steps")
        if not total or time.monotonic() - self._progress_shown < PROGRESS_INTERVAL_S:
            return
        self._progress_shown = time.monotonic()
        percent = min(100.0, 100.0 * metrics["step"] / total)
        if self._progress_id is None:
            self._progress_id = await self._show(
                acreate_progress_artifact(
                    progress=percent, key=f"{self._step}-progress", description=self._step
                )
            )
        else:
            await self._show(aupdate_progress_artifact(self._progress_id, progress=percent))

    async def show_record(self, record: Record) -> None:
        """A table of what the step made, its numbers, and a link to each report."""
        if self._progress_id is not None:
            await self._show(aupdate_progress_artifact(self._progress_id, progress=100.0))
        files: list[dict[str, Any]] = [
            {"artifact": ref.name, "kind": ref.kind, "bytes": ref.size_bytes, "sha256": ref.digest}
            for ref in record.artifacts
        ]
        numbers = [
            {"artifact": name, "kind": "number", "value": value}
            for name, value in record.result.items()
            if isinstance(value, int | float | str)
        ]
        await self._show(
            acreate_table_artifact(
                table=[*files, *numbers],
                key=f"{self._step}-artifacts",
                description=f"{self._step} {record.identity[:12]}",
            )
        )
        for ref in record.artifacts:
            if ref.kind is ArtifactKind.REPORT:
                page = open_store().materialize(ref) / "index.html"
                await self._show(
                    acreate_link_artifact(
                        link=page.as_uri(), link_text=ref.name, key=f"{self._step}-report"
                    )
                )

    async def _show(self, call: Awaitable[Any]) -> Any:
        """The call's value, or None after a warning: what Prefect cannot show is not lost."""
        try:
            return await asyncio.wait_for(call, SHOW_TIMEOUT_S)
        except (httpx.HTTPError, PrefectException, OSError, TimeoutError) as error:
            if not self._api_failed:
                self._logger.warning(
                    "Prefect could not show this step: %r; the step goes on", error
                )
                self._api_failed = True
            return None
