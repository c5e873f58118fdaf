"""Benchmark a served model: start vLLM, warm it up, then every load in every repeat.

Repeats are interleaved (all loads once, then all loads again in reverse order, and so on), so that
a slow drift of the machine falls on all loads alike and not on the last one. Each load in each
repeat has prompts of its own, the same for every model: nothing is answered from a prefix cache,
and models are compared on equal requests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.artifacts import ArtifactKind
from tasks.benchmark.hardware import found_class
from tasks.benchmark.load import derived_seed, load_generator, prepare, run_load
from tasks.benchmark.points import UnusableLoad, load_point, num_lost
from tasks.benchmark.spec import BenchmarkResult, BenchmarkSpec, Concurrent, LoadPoint, Profile
from tasks.body import BodyContext, run_body
from tasks.model_folder import check_model_folder
from tasks.serving import Server, vllm_server

WARMUP_STREAMS = 4
MAX_LOST_FRACTION = 0.01
NUM_ATTEMPTS = 5


def main(spec: BenchmarkSpec, context: BodyContext) -> BenchmarkResult:
    model = context.path(spec.model)
    hardware = found_class()
    if hardware != spec.hardware:
        raise ValueError(
            f"the spec declares hardware '{spec.hardware}', this is '{hardware}'; place the step "
            "on a machine of that class, or declare the one that is there"
        )
    check_model_folder(model)
    refuse_too_long(spec, model)
    log, reports = context.out / "vllm.log", context.out / "guidellm"
    reports.mkdir()
    with (
        load_generator(),
        vllm_server(
            model, spec.server, log, meanwhile=lambda: prepare(context.out / "huggingface")
        ) as server,
    ):
        points = list(measure(spec, context, server, model, reports))
    return BenchmarkResult(
        points=tuple(points),
        hardware=hardware,
        server_startup_s=server.startup_s,
        report=context.artifact(ArtifactKind.FOLDER, reports),
        server_log=context.artifact(ArtifactKind.LOG, log),
    )


def measure(
    spec: BenchmarkSpec, context: BodyContext, server: Server, model: Path, reports: Path
) -> Iterator[LoadPoint]:
    """Warm the server up, then measure; refuses a load with too many errors as soon as it ends."""
    if spec.warmup_requests:
        run_load(
            spec,
            server,
            model,
            Concurrent(streams=WARMUP_STREAMS),
            num_requests=spec.warmup_requests,
            max_seconds=None,
            seed=derived_seed(spec.seed, "warmup"),
            report=context.out / "warmup.json",
        )
    num_loads = spec.repeats * len(spec.profiles)
    for done, (repeat, profile) in enumerate(in_order(spec.profiles, spec.repeats), start=1):
        benchmarks = measured_in_full(spec, server, model, profile, repeat, reports)
        for index, benchmark in enumerate(benchmarks, start=1):
            point = load_point(
                benchmark, profile, repeat=repeat, index=index, service_level=spec.service_level
            )
            refuse_errors(spec, point, benchmark)
            yield point
        context.metrics(
            done,
            num_steps=num_loads,
            load=point.load,
            repeat=repeat,
            requests_per_s=point.requests_per_s,
            output_tokens_per_s=point.output_tokens_per_s,
        )


def measured_in_full(
    spec: BenchmarkSpec, server: Server, model: Path, profile: Profile, repeat: int, reports: Path
) -> list[dict[str, Any]]:
    """One load, once more with other prompts if the load generator lost too many records.

    What it loses are the last requests more often than others, so a load cannot do without them.
    """
    for attempt in range(NUM_ATTEMPTS):
        retried = (f"attempt {attempt}",) if attempt else ()
        benchmarks = run_load(
            spec,
            server,
            model,
            profile,
            num_requests=spec.num_requests,
            max_seconds=spec.max_seconds,
            seed=derived_seed(spec.seed, profile.label, repeat, *retried),
            report=reports / f"repeat{repeat}-{_file_name(profile)}.json",
        )
        lost = sum(map(num_lost, benchmarks))
        made = sum(benchmark["scheduler_state"]["created_requests"] for benchmark in benchmarks)
        if lost <= MAX_LOST_FRACTION * made:
            return benchmarks
        print(f"load '{profile.label}': guidellm lost {lost} of {made} records", file=sys.stderr)
    raise UnusableLoad(
        f"load '{profile.label}': guidellm lost more than {MAX_LOST_FRACTION:.0%} of its records "
        f"{NUM_ATTEMPTS} times in a row"
    )


def in_order(profiles: tuple[Profile, ...], repeats: int) -> Iterator[tuple[int, Profile]]:
    """All profiles forth, then back, then forth: a linear drift cancels over two repeats."""
    for repeat in range(repeats):
        for profile in profiles if repeat % 2 == 0 else reversed(profiles):
            yield repeat, profile


def refuse_errors(spec: BenchmarkSpec, point: LoadPoint, benchmark: dict[str, Any]) -> None:
    """ValueError if more requests of a load failed than the spec allows."""
    if point.error_fraction <= spec.max_error_fraction:
        return
    reasons = sorted({str(r["info"].get("error")) for r in benchmark["requests"]["errored"]})
    raise ValueError(
        f"load '{point.load}', repeat {point.repeat}: {point.num_errored} of "
        f"{point.num_errored + point.num_successful} requests failed, "
        f"max_error_fraction is {spec.max_error_fraction:g}: {'; '.join(reasons[:3])}"
    )


def refuse_too_long(spec: BenchmarkSpec, model: Path) -> None:
    """ValueError if a request may not fit the model's positions; before any server is started."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    num_positions = config.get("max_position_embeddings")
    longest = spec.num_tokens_at_most
    if num_positions is not None and longest > num_positions:
        raise ValueError(
            f"a request may have {longest} tokens, but the model has {num_positions} positions"
        )


def _file_name(profile: Profile) -> str:
    return profile.label.replace("/", "-per-").replace(" ", "-")


if __name__ == "__main__":
    run_body(BenchmarkSpec, main)
