"""An execution as a Prefect flow: its steps are tasks, their order edges, its end a state.

Imported only when something has to be computed, as importing Prefect takes a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from flows.experiment.execute import Execution, call_directly
from flows.experiment.prefect_api import api_may_go, cancelled_by_prefect
from flows.experiment.progress import RunState
from flows.experiment.record import counted
from flows.experiment.signals import cancelled_by_signals
from flows.experiment.sound import ExperimentStep
from tasks.scrubbing import scrub
from tasks.spec import Placement, Result, Spec


async def call_as_task(
    step: ExperimentStep, spec: Spec, placement: Placement, upstream: Sequence[Any]
) -> Result:
    """A step as a Prefect task, shown under the name that it has in the file."""
    result: Result = await step.step(spec, placement, wait_for=upstream, name=step.name)
    return result


async def execute_in_flow(execution: Execution, state: RunState) -> None:
    """Run as a flow; inside of one, its steps become tasks of that one.

    What ends the execution is raised here: a flow that is asked for its state raises nothing.
    """
    if FlowRunContext.get() is not None:
        async with cancelled_by_signals():
            await execution.run(call_as_task)
        return
    escaped: BaseException | None = None
    has_begun = False

    @flow(
        name="experiment",
        flow_run_name=f"{state.report.name} {state.report.id}",
        persist_result=False,
        validate_parameters=False,
    )
    async def experiment(file: str, run: str) -> State[None]:  # noqa: ARG001  (shown in the UI)
        nonlocal escaped, has_begun
        has_begun = True
        try:
            async with cancelled_by_signals(), cancelled_by_prefect():
                await execution.run(call_as_task)
        except asyncio.CancelledError as error:
            escaped = error
            return Cancelled(message=str(error) or "stopped")
        except Exception as error:  # noqa: BLE001  (raised again, once Prefect knows)
            escaped = error
            return Failed(message=scrub(f"{type(error).__name__}: {error}"))
        if shortfalls := execution.shortfalls:
            return Failed(message=scrub("; ".join(shortfalls)))
        lost = [name for name, step in state.report.steps.items() if not step.state.has_result]
        if lost:
            return Failed(message=f"did not finish: {', '.join(lost)}")
        return Completed(message=counted(len(state.report.steps), "step"))

    with api_may_go(state.note):
        await experiment(state.report.file, state.report.id, return_state=True)
    if not has_begun:
        async with cancelled_by_signals():
            await execution.run(call_directly)
    if escaped is not None:
        raise escaped
