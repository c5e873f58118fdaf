"""Prefect's API as a run sees it: it may stop answering, and it may ask the run to stop.

with api_may_go(state.note):                  # around a flow
    ...
async with cancelled_by_prefect():            # inside of it
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, refresh_global_settings_context
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

ASK_INTERVAL_S = 3.0
NOT_REACHED = "Failed to reach API"  # how the RuntimeError of Prefect's client begins


@asynccontextmanager
async def cancelled_by_prefect() -> AsyncIterator[None]:
    """Cancel the current task when somebody cancels its flow run, in the UI or elsewhere.

    A worker ends the processes of its own runs; nobody but us can end a run in place.
    """
    context, task = FlowRunContext.get(), asyncio.current_task()
    if context is None or context.flow_run is None or task is None:
        yield
        return
    asking = asyncio.create_task(_cancel_when_asked(context.flow_run.id, task))
    try:
        yield
    finally:
        asking.cancel()


async def _cancel_when_asked(flow_run: UUID, task: asyncio.Task[object]) -> None:
    async with get_client() as client:
        while True:
            await asyncio.sleep(ASK_INTERVAL_S)
            with contextlib.suppress(httpx.HTTPError, PrefectException):
                state = (await client.read_flow_run(flow_run)).state
                if state is not None and (state.is_cancelling() or state.is_cancelled()):
                    task.cancel("cancelled in Prefect")
                    return


@contextmanager
def api_may_go(note: Callable[[str], None]) -> Iterator[None]:
    """An API that does not answer is noted in words, and no reason to lose what was computed."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(NOT_REACHED):
            raise
        _stop_asking()
        reason = str(error).removeprefix(NOT_REACHED) or type(error).__name__
        note(
            f"Prefect's API at {PREFECT_API_URL.value()} did not answer ({reason.strip()}): "
            "it does not show this run to its end; the results are kept all the same"
        )


def _stop_asking() -> None:
    """Try once what is still to be sent: the end of this process waits for every message."""
    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    refresh_global_settings_context()
    client = getattr(EventsWorker.instance(), "_client", None)
    if isinstance(client, PrefectEventsClient):
        client._reconnection_attempts = 0
