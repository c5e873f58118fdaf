"""Real vLLM, real guidellm, on whatever this machine has: what is compressed is served, and loaded.

.venv/bin/pytest -m long tests/unit/test_real_serving.py
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.benchmark.spec import BenchmarkResult, BenchmarkSpec, LoadPoint
from tasks.compress.spec import CompressSpec
from tasks.serving import Server, ServerOptions, vllm_server
from tests.fakes.body_runs import Answer, run_bodies
from tests.fakes.quickstart import demand_serving

pytestmark = pytest.mark.long

NUM_TOKENS = 8
OPTIONS = ServerOptions(max_model_len=128, enforce_eager=True, kv_cache_space_gib=1)
STANDARDS = ("w8a8", "w4a16", "fp8_dynamic", "awq_w4a16", "sparse_2of4")


@pytest.fixture(scope="module", autouse=True)
def environments() -> Path:
    """Where the serve environment lies; without it there is nothing to prove."""
    return demand_serving()


@pytest.fixture(scope="module")
def compressed(
    tiny_model: Path, tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Answer]:
    specs = {
        recipe: CompressSpec(
            model=tiny_model, calibration=tiny_tokens, recipe=recipe, device_kind="cpu"
        )
        for recipe in STANDARDS
    }
    return run_bodies("tasks.compress.body", tmp_path_factory.mktemp("compressed"), specs)


def complete(server: Server, prompt: str) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        f"{server.base_url}/completions",
        data=json.dumps(
            {
                "model": server.model,
                "prompt": prompt,
                "max_tokens": NUM_TOKENS,
                "temperature": 0,
                "logprobs": 1,
                "ignore_eos": True,
            }
        ).encode(),
        headers={
            "Authorization": f"Bearer {server.api_key}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        document: dict[str, Any] = json.load(response)
    return document


@pytest.mark.parametrize("recipe", STANDARDS)
def test_every_compressed_format_is_served_by_vllm_and_generates(
    compressed: dict[str, Answer], recipe: str, tmp_path: Path
) -> None:
    assert compressed[recipe].error is None
    with vllm_server(compressed[recipe].out / "model", OPTIONS, tmp_path / "server.log") as server:
        answer = complete(server, "Shall I compare thee to")
    assert answer["usage"]["completion_tokens"] == NUM_TOKENS
    logprobs = answer["choices"][0]["logprobs"]["token_logprobs"]
    assert len(logprobs) == NUM_TOKENS
    assert all(math.isfinite(logprob) and logprob <= 0 for logprob in logprobs)
    is_quantized = "quantization=compressed-tensors" in server.log.read_text()
    assert is_quantized == (recipe != "sparse_2of4")


RATE_PER_S, NUM_REQUESTS, NUM_SWEPT = 8.0, 64, 4


@dataclass(frozen=True)
class Loads:
    """A point by its load's label, and guidellm's own reports."""

    points: dict[str, LoadPoint]
    reports: Path

    def spread_of_gaps(self, load: str) -> float:
        """Standard deviation of the times between requests, over their mean."""
        report = json.loads((self.reports / f"repeat0-{load}.json").read_text())
        requests = report["benchmarks"][0]["requests"]["successful"]
        sent = sorted(request["request_start_time"] for request in requests)
        gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
        return statistics.stdev(gaps) / statistics.mean(gaps)


@pytest.fixture(scope="module")
def loads(environments: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Loads:
    """Every kind of profile against one server."""
    folder = tmp_path_factory.mktemp("benchmark")
    home = folder / "home" / "labwright"
    home.mkdir(parents=True)
    (home / "envs").symlink_to(environments)
    spec = BenchmarkSpec.model_validate(
        {
            "model": tiny_model,
            "workload": {"prompt_tokens": 16, "output_tokens": 8},
            "num_requests": NUM_REQUESTS,
            "repeats": 1,
            "server": OPTIONS,
            "profiles": [
                {"kind": "constant", "rate_per_s": RATE_PER_S},
                {"kind": "poisson", "rate_per_s": RATE_PER_S},
                {"kind": "throughput", "max_concurrency": 8},
                {"kind": "sweep", "num_loads": NUM_SWEPT},
            ],
        }
    )
    answer = run_bodies("tasks.benchmark.body", folder, {"loads": spec})["loads"]
    assert answer.error is None
    result = BenchmarkResult.model_validate(answer.result)
    for point in result.points:
        print(point.model_dump_json(include=set(SHOWN)))
    points = {point.load: point for point in result.points}
    return Loads(points, answer.out / "guidellm")


SHOWN = ("load", "kind", "rate_per_s", "requests_per_s", "duration_s", "num_successful")


def test_every_profile_gives_a_point_whose_requests_all_succeed(loads: Loads) -> None:
    assert list(loads.points) == [
        "constant 8/s",
        "poisson 8/s",
        "throughput 8",
        *(f"sweep {n}" for n in range(1, NUM_SWEPT + 1)),
    ]
    for point in loads.points.values():
        assert point.num_successful + point.num_lost == NUM_REQUESTS
        assert point.num_errored == 0
        assert point.ttft_ms is not None
        assert point.latency_s is not None
        assert 0 < point.ttft_ms.p50 <= 1000 * point.latency_s.p50


def test_a_rate_is_what_was_asked_for_and_what_was_served(loads: Loads) -> None:
    """The schedules are seeded; of 64 Poisson arrivals the rate is uncertain by an eighth."""
    for kind, slack in {"constant": 0.15, "poisson": 0.4}.items():
        point = loads.points[f"{kind} 8/s"]
        assert (point.kind, point.rate_per_s) == (kind, RATE_PER_S)
        assert point.requests_per_s == pytest.approx(RATE_PER_S, rel=slack)


def test_constant_arrivals_keep_their_distance_and_poisson_arrivals_do_not(loads: Loads) -> None:
    """The spread of the gaps over their mean is 0 for a constant rate and 1 for a Poisson rate."""
    spreads = {kind: loads.spread_of_gaps(f"{kind}-8-per-s") for kind in ("constant", "poisson")}
    print(spreads)
    assert spreads["constant"] < 0.4
    assert 0.6 < spreads["poisson"] < 1.4


def test_throughput_serves_the_most(loads: Loads) -> None:
    most = loads.points["throughput 8"].requests_per_s
    assert loads.points["throughput 8"].kind == "throughput"
    assert most > RATE_PER_S
    assert most > loads.points["sweep 1"].requests_per_s


def test_a_sweep_goes_from_one_request_at_a_time_through_rates_to_the_most(loads: Loads) -> None:
    swept = [loads.points[f"sweep {n}"] for n in range(1, NUM_SWEPT + 1)]
    kinds = ["synchronous", "throughput", *["constant"] * (NUM_SWEPT - 2)]
    assert [point.kind for point in swept] == kinds
    slowest, fastest = swept[0].requests_per_s, swept[1].requests_per_s
    step = (fastest - slowest) / (NUM_SWEPT - 2)
    even = [slowest + step * (n + 1) for n in range(NUM_SWEPT - 2)]
    assert [point.rate_per_s for point in swept[2:]] == pytest.approx(even, rel=0.05)
