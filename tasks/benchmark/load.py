"""guidellm, driven from Python: one process for all loads, its workers forked from a warm one.

guidellm starts fresh worker processes for every load. Forked from a server that has imported it,
they are there in a second. `prepare` is that import; it takes seconds and can run while the model
server starts.

    with load_generator():
        prepare(scratch)
        benchmarks = run_load(spec, server, tokenizer, Concurrent(streams=4), ...)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from multiprocessing import active_children, forkserver, set_forkserver_preload
from pathlib import Path
from typing import Any

from tasks.benchmark.spec import (
    BenchmarkSpec,
    Concurrent,
    ConstantRate,
    PoissonRate,
    Profile,
    Sweep,
    Synchronous,
    Throughput,
)
from tasks.benchmark.workload import TokenCount
from tasks.serving import Server

CORES_PER_WORKER = 2  # load generator's workers share the host with a server on CPU
MAX_WORKERS = 8
START_DELAY_S = 0.2  # workers are up by then: they have passed a barrier


@contextlib.contextmanager
def load_generator() -> Iterator[None]:
    """Ends what an interrupted load leaves, and the process that workers are forked from.

    In this order: that process ends when the last copy of a pipe is closed, and guidellm's data
    loader, a plain fork of this process, holds one.
    """
    try:
        yield
    finally:
        for process in active_children():
            process.kill()
            process.join()
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # there is no public way


def prepare(scratch: Path) -> None:
    """Import guidellm here, and what its workers need in the process that they are forked from.

    Its settings are variables: those of the user's are removed, as they would change what is
    measured without a word in the spec.
    """
    for name in [name for name in os.environ if name.startswith("GUIDELLM__")]:
        del os.environ[name]
    num_cores = len(os.sched_getaffinity(0))
    os.environ.update(
        HF_HUB_OFFLINE="1",
        HF_HOME=str(scratch),
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
        GUIDELLM__MP_CONTEXT_TYPE="forkserver",
        GUIDELLM__MAX_WORKER_PROCESSES=str(max(1, min(MAX_WORKERS, num_cores // CORES_PER_WORKER))),
        GUIDELLM__SCHEDULER_START_DELAY_NON_DISTRIBUTED=str(START_DELAY_S),
        GUIDELLM__LOGGING__CONSOLE_LOG_LEVEL="WARNING",
    )
    set_forkserver_preload(["guidellm.scheduler", "tasks.benchmark.backend"])
    forkserver.ensure_running()

    import tasks.benchmark.backend  # noqa: F401  # before guidellm builds its schemas

    # isort: split
    import guidellm.benchmark  # noqa: F401


def derived_seed(seed: int, *parts: object) -> int:
    """A seed of 31 bits from a seed and a path: equal for equal parts, on every machine."""
    digest = hashlib.sha256(json.dumps([seed, *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def run_load(
    spec: BenchmarkSpec,
    server: Server,
    tokenizer: Path,
    profile: Profile,
    *,
    num_requests: int | None,
    max_seconds: float | None,
    seed: int,
    report: Path,
) -> list[dict[str, Any]]:
    """Put one load on the server; the report's `benchmarks`, several for a sweep.

    The report stays at `report`, without the texts of prompts and answers.
    """
    from guidellm.benchmark import BenchmarkScenario, benchmark_generative_text

    from tasks.benchmark.backend import KIND

    constraints: list[dict[str, Any]] = []
    if num_requests is not None:
        constraints.append({"kind": "max_requests", "count": num_requests})
    if max_seconds is not None:
        constraints.append({"kind": "max_duration", "seconds": max_seconds})
    scenario = BenchmarkScenario.create(
        scenario=None,
        spec={
            "backend": {
                "kind": KIND,
                "target": server.base_url,
                "model": server.model,
                "api_key": server.api_key,
                "timeout": spec.request_timeout_s,
            },
            "profile": guidellm_profile(profile),
            "constraints": constraints,
            "tokenizer": {"kind": "huggingface_auto", "model": str(tokenizer)},
            "data": [
                {
                    "kind": "synthetic_text",
                    **_token_fields("prompt_tokens", spec.workload.prompt_tokens),
                    **_token_fields("output_tokens", spec.workload.output_tokens),
                }
            ],
            "metrics": {"kind": "generative", "sample_size": 0},
            "outputs": [{"kind": "json", "path": str(report)}],
            "seed": {"kind": "static", "value": seed},
        },
    )
    asyncio.run(benchmark_generative_text(args=scenario, progress=False, console=None))
    benchmarks: list[dict[str, Any]] = json.loads(report.read_text())["benchmarks"]
    return benchmarks


def guidellm_profile(profile: Profile) -> dict[str, Any]:
    """The profile in guidellm's words."""
    match profile:
        case Synchronous():
            return {"kind": "synchronous"}
        case Concurrent():
            return {"kind": "concurrent", "streams": [profile.streams]}
        case Throughput():
            return {"kind": "throughput", "max_concurrency": profile.max_concurrency}
        case ConstantRate() | PoissonRate():
            return {"kind": profile.kind, "rate": [profile.rate_per_s]}
        case Sweep():
            return {
                "kind": "sweep",
                "sweep_size": profile.num_loads,
                "strategy_type": profile.arrivals,
            }


def _token_fields(name: str, count: TokenCount) -> dict[str, int]:
    fields = {
        name: count.mean,
        f"{name}_stdev": count.stdev or None,
        f"{name}_min": count.min,
        f"{name}_max": count.max,
    }
    return {key: value for key, value in fields.items() if value is not None}
