"""Compress a model in several ways and measure what each costs, as one Prefect flow.

    from flows.compress_and_evaluate import compress_and_evaluate

    found = asyncio.run(
        compress_and_evaluate(
            compressions={
                "w8a8": CompressSpec(model="model", recipe="w8a8", calibration="calibration"),
                "fp8": CompressSpec(model="model", recipe="fp8_dynamic"),
            },
            evaluation=EvaluateSpec(model="model", tasks=("heldout_text",), task_folder="tasks"),
            benchmark=BenchmarkSpec(model="model", workload="chat", num_requests=32),
        )
    )
    found.rows[1].recoveries[0].comparison.low

`evaluation` and `benchmark` name the baseline; each compressed model is put in its place. What was
computed before, here or by an experiment file, is not computed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from prefect import flow

from tasks.analyze import AnalyzeResult, AnalyzeSpec, Evaluation, Variant, analyze
from tasks.artifacts import Input
from tasks.benchmark import BenchmarkSpec
from tasks.benchmark import benchmark as measure
from tasks.compress import CompressResult, CompressSpec, compress
from tasks.errors import SpecError
from tasks.evaluate import EvaluateSpec, evaluate
from tasks.settings import settings
from tasks.spec import Placement, Result

BASELINE = "baseline"


@flow(name="compress-and-evaluate", persist_result=False)
async def compress_and_evaluate(
    compressions: dict[str, CompressSpec],
    evaluation: EvaluateSpec,
    benchmark: BenchmarkSpec | None = None,
    placement: Placement | None = None,
    title: str = "Compression against its baseline",
) -> AnalyzeResult:
    """The baseline and every compressed model side by side: scores, recovery, size, speed.

    Raises SpecError where a compression is named like the baseline, and what the first step that
    fails raises.
    """
    if BASELINE in compressions:
        raise SpecError(f"'{BASELINE}' is the model that goes in; name the compression otherwise")
    slots = asyncio.Semaphore(settings().max_parallel_steps)
    meter = Meter(evaluation, benchmark, placement, slots)
    try:
        async with asyncio.TaskGroup() as group:  # the first failure ends the others
            measuring = group.create_task(meter.measure(evaluation.model))
            others = {
                name: group.create_task(_compress_and_measure(spec, meter))
                for name, spec in compressions.items()
            }
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    baseline = measuring.result()
    variants = {BASELINE: baseline}
    for name, task in others.items():
        made, variant = task.result()
        sized = {"model_size_bytes": made.base_size_bytes}
        variants[BASELINE] = baseline.model_copy(update=sized)
        variants[name] = variant.model_copy(update={"model_size_bytes": made.size_bytes})
    return await analyze(AnalyzeSpec(title=title, baseline=BASELINE, variants=variants))


@dataclass(frozen=True)
class Meter:
    """What every model is measured with."""

    evaluation: EvaluateSpec
    benchmark: BenchmarkSpec | None
    placement: Placement | None
    slots: asyncio.Semaphore  # for one step each

    async def measure(self, model: Input, wait_for: Iterable[Result] = ()) -> Variant:
        """Evaluate a model and, where that was asked for, benchmark it."""
        update = {"model": model}
        evaluation = self.evaluation.model_copy(update=update)
        async with self.slots:
            evaluated = await evaluate(evaluation, self.placement, wait_for=wait_for)
        found = Evaluation(scores=evaluated.scores, samples=evaluated.samples)
        variant = Variant(evaluations=(found,))
        if self.benchmark is None:
            return variant
        benchmark = self.benchmark.model_copy(update=update)
        async with self.slots:
            served = await measure(benchmark, self.placement, wait_for=wait_for)
        return variant.model_copy(update={"load_points": served.points})


async def _compress_and_measure(spec: CompressSpec, meter: Meter) -> tuple[CompressResult, Variant]:
    async with meter.slots:
        made = await compress(spec, meter.placement)
    return made, await meter.measure(made.model, wait_for=[made])
