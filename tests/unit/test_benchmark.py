"""What a benchmark is asked, what its numbers mean, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.benchmark import body, hardware
from tasks.benchmark.backend import event_lines
from tasks.benchmark.body import in_order, refuse_errors
from tasks.benchmark.check import check
from tasks.benchmark.load import derived_seed, guidellm_profile
from tasks.benchmark.points import UnusableLoad, load_point, weighted_percentiles
from tasks.benchmark.spec import (
    BenchmarkResult,
    BenchmarkSpec,
    Concurrent,
    LoadPoint,
    ServiceLevel,
    Sweep,
    Synchronous,
    Throughput,
)
from tasks.errors import EnvironmentMissing
from tasks.gpus import Gpu
from tasks.serving import Server
from tasks.standards import StandardKind, names

RECORDED = Path(__file__).parent / "data" / "guidellm_concurrent_4.json"
REF = ArtifactRef(kind=ArtifactKind.MODEL, digest="0" * 64, size_bytes=1, name="m", is_folder=True)


def make_spec(**fields: Any) -> BenchmarkSpec:
    defaults = {
        "model": REF,
        "workload": {"prompt_tokens": 64, "output_tokens": 32},
        "num_requests": 16,
        "hardware": "cpu-test-2",
    }
    return BenchmarkSpec.model_validate({**defaults, **fields})


@pytest.fixture(autouse=True)
def no_machine_is_remembered() -> Iterator[None]:
    hardware.this_machine.cache_clear()
    yield
    hardware.this_machine.cache_clear()


@pytest.fixture
def recorded() -> dict[str, Any]:
    """One load of 16 requests over 4 streams, as guidellm 0.8.1 wrote it about a real server."""
    benchmark: dict[str, Any] = json.loads(RECORDED.read_text())["benchmarks"][0]
    return benchmark


def point_of(
    benchmark: dict[str, Any], service_level: ServiceLevel | None = None, repeat: int = 0
) -> LoadPoint:
    return load_point(
        benchmark, Concurrent(streams=4), repeat=repeat, index=1, service_level=service_level
    )


def failed(reason: str) -> dict[str, Any]:
    return {
        "request_start_time": 1795272735.0,
        "request_end_time": 1795272735.1,
        "output_tokens": None,
        "time_to_first_token_ms": None,
        "inter_token_latency_ms": None,
        "request_latency": None,
        "info": {"error": reason},
    }


def add_failures(benchmark: dict[str, Any], number: int) -> None:
    benchmark["requests"]["errored"] = [failed("HTTP 500")] * number
    benchmark["scheduler_state"]["errored_requests"] = number


class TestNumbers:
    def test_they_are_guidellms_own_where_it_has_them(self, recorded: dict[str, Any]) -> None:
        point, metrics = point_of(recorded), recorded["metrics"]
        for name, ours in {
            "time_to_first_token_ms": point.ttft_ms,
            "inter_token_latency_ms": point.itl_ms,
            "request_latency": point.latency_s,
        }.items():
            theirs = metrics[name]["successful"]
            assert ours is not None
            assert ours.mean == pytest.approx(theirs["mean"], rel=1e-9)
            for percentile in ("p50", "p90", "p95", "p99"):
                expected = theirs["percentiles"][percentile]
                assert getattr(ours, percentile) == pytest.approx(expected, rel=1e-9)
        assert point.requests_per_s == pytest.approx(
            metrics["requests_per_second"]["successful"]["mean"], rel=1e-4
        )
        assert point.output_tokens_per_s == pytest.approx(
            metrics["output_tokens_per_second"]["successful"]["mean"], rel=1e-4
        )
        assert point.duration_s == pytest.approx(recorded["duration"], rel=1e-6)

    def test_units_are_milliseconds_and_seconds(self, recorded: dict[str, Any]) -> None:
        """Each from the clock readings of the requests themselves."""
        point = point_of(recorded)
        readings = [request["info"]["timings"] for request in recorded["requests"]["successful"]]
        first_token_s = [r["first_token_iteration"] - r["request_start"] for r in readings]
        gaps_s = [(r["last_token_iteration"] - r["first_token_iteration"]) / 31 for r in readings]
        latency_s = [r["request_end"] - r["request_start"] for r in readings]
        assert point.ttft_ms is not None
        assert point.itl_ms is not None
        assert point.latency_s is not None
        assert point.ttft_ms.mean == pytest.approx(1000 * sum(first_token_s) / 16, rel=1e-6)
        assert point.itl_ms.mean == pytest.approx(1000 * sum(gaps_s) / 16, rel=1e-6)
        assert point.latency_s.mean == pytest.approx(sum(latency_s) / 16, rel=1e-6)

    def test_counts_and_requested_load_stand_in_the_point(self, recorded: dict[str, Any]) -> None:
        point = point_of(recorded)
        assert (point.load, point.kind, point.concurrency) == ("concurrent 4", "concurrent", 4)
        assert (point.num_successful, point.num_errored, point.num_incomplete) == (16, 0, 0)
        assert point.error_fraction == 0
        assert point.rate_per_s is None

    def test_missing_measurement_is_absent_and_never_zero(self, recorded: dict[str, Any]) -> None:
        for request in recorded["requests"]["successful"]:
            request["time_to_first_token_ms"] = request["inter_token_latency_ms"] = None
        point = point_of(recorded)
        assert point.ttft_ms is None
        assert point.itl_ms is None
        assert point.latency_s is not None

    def test_request_without_a_number_pulls_no_percentile_to_zero(
        self, recorded: dict[str, Any]
    ) -> None:
        slowest = max(
            recorded["requests"]["successful"], key=lambda request: request["request_latency"]
        )
        slowest["time_to_first_token_ms"] = None
        point = point_of(recorded)
        assert point.ttft_ms is not None
        assert point.ttft_ms.p50 > 10

    def test_requests_of_one_token_have_no_gaps(self, recorded: dict[str, Any]) -> None:
        for request in recorded["requests"]["successful"]:
            request["output_tokens"], request["inter_token_latency_ms"] = 1, None
        assert point_of(recorded).itl_ms is None

    def test_percentile_is_the_smallest_value_that_covers_its_share(self) -> None:
        found = weighted_percentiles([float(n) for n in range(100, 0, -1)], [1.0] * 100)
        assert (found.mean, found.p50, found.p90, found.p95, found.p99) == (50.5, 50, 90, 95, 99)

    def test_values_count_as_often_as_they_weigh(self) -> None:
        found = weighted_percentiles([1.0, 9.0, 100.0], [9.0, 1.0, 0.0])
        assert (found.mean, found.p50, found.p90, found.p99) == (1.8, 1.0, 1.0, 9.0)

    def test_nan_is_refused(self, recorded: dict[str, Any]) -> None:
        recorded["requests"]["successful"][0]["request_latency"] = float("nan")
        with pytest.raises(ValidationError, match="finite"):
            point_of(recorded)


class TestEventStream:
    STREAM = 'data: {"text": "é\u2028\x85\x0b\x1c"}\n\ndata: b\r\n\r\rdata: c\rdata: [DONE]'
    LINES = (
        'data: {"text": "é\u2028\x85\x0b\x1c"}',
        "",
        "data: b",
        "",
        "",
        "data: c",
        "data: [DONE]",
    )

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    async def test_lines_end_where_the_standard_says_wherever_chunks_are_cut(
        self, size: int
    ) -> None:
        payload = self.STREAM.encode()

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(payload), size):
                yield payload[start : start + size]

        assert tuple([line async for line in event_lines(chunks())]) == self.LINES


class TestErrors:
    def test_load_without_a_success_is_refused_with_the_reasons(
        self, recorded: dict[str, Any]
    ) -> None:
        recorded["requests"] = {
            "successful": [],
            "incomplete": [],
            "errored": [failed("connection refused")],
        }
        with pytest.raises(UnusableLoad, match=r"'concurrent 4'.*connection refused"):
            point_of(recorded)

    def test_load_without_a_token_is_refused(self, recorded: dict[str, Any]) -> None:
        for request in recorded["requests"]["successful"]:
            request["output_tokens"] = 0
        with pytest.raises(UnusableLoad, match="no token came"):
            point_of(recorded)

    def test_lost_records_are_counted(self, recorded: dict[str, Any]) -> None:
        assert point_of(recorded).num_lost == 0
        last = recorded["requests"]["successful"].pop()
        assert point_of(recorded).num_lost == 1
        recorded["requests"]["successful"].append(last)
        recorded["scheduler_state"] |= {"processing_requests": 2}
        assert point_of(recorded).num_lost == 2

    def test_load_that_lost_records_is_measured_again_with_other_prompts(
        self, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lossy = copy.deepcopy(recorded)
        lossy["requests"]["successful"].pop()
        answers, seeds = [[lossy], [lossy], [recorded]], []

        def run_load(*_: Any, seed: int, **__: Any) -> list[dict[str, Any]]:
            seeds.append(seed)
            return answers[len(seeds) - 1]

        monkeypatch.setattr(body, "run_load", run_load)
        arguments = make_spec(), Server, tmp_path, Concurrent(streams=4), 0, tmp_path
        assert body.measured_in_full(*arguments) == [recorded]  # type: ignore[arg-type]
        assert len(set(seeds)) == 3
        answers, seeds = [[lossy]] * body.NUM_ATTEMPTS, []
        with pytest.raises(UnusableLoad, match="lost more than 1% of its records 5 times"):
            body.measured_in_full(*arguments)  # type: ignore[arg-type]

    def test_more_errors_than_allowed_fail_the_step(self, recorded: dict[str, Any]) -> None:
        add_failures(recorded, 4)
        point = point_of(recorded)
        assert point.error_fraction == pytest.approx(0.2)
        refuse_errors(make_spec(max_error_fraction=0.2), point, recorded)
        with pytest.raises(ValueError, match=r"4 of 20 requests failed.*0\.1: HTTP 500"):
            refuse_errors(make_spec(max_error_fraction=0.1), point, recorded)


class TestServiceLevel:
    def test_limit_on_the_99th_percentile_needs_99_of_100_requests(
        self, recorded: dict[str, Any]
    ) -> None:
        point = point_of(recorded)
        assert point.latency_s is not None
        kept = point_of(recorded, ServiceLevel(latency_s=point.latency_s.p99))
        broken = point_of(recorded, ServiceLevel(latency_s=point.latency_s.p99 - 1e-6))
        assert (kept.slo_met_fraction, kept.slo_met) == (1.0, True)
        assert (broken.slo_met_fraction, broken.slo_met) == (15 / 16, False)

    def test_every_limit_must_be_kept_by_the_same_request(self, recorded: dict[str, Any]) -> None:
        requests = recorded["requests"]["successful"]
        fast_start = sorted(requests, key=lambda request: request["time_to_first_token_ms"])[7]
        limit = ServiceLevel(
            ttft_ms=fast_start["time_to_first_token_ms"], itl_ms=10_000, fraction=0.5
        )
        assert point_of(recorded, limit).slo_met_fraction == 0.5
        assert point_of(recorded, limit).slo_met is True

    def test_errors_do_not_keep_it(self, recorded: dict[str, Any]) -> None:
        add_failures(recorded, 16)
        assert point_of(recorded, ServiceLevel(latency_s=60)).slo_met_fraction == 0.5

    def test_it_is_not_judged_by_what_was_not_measured(self, recorded: dict[str, Any]) -> None:
        recorded["requests"]["successful"][3]["time_to_first_token_ms"] = None
        point = point_of(recorded, ServiceLevel(ttft_ms=1000))
        assert (point.slo_met_fraction, point.slo_met) == (None, None)

    def test_it_limits_something(self) -> None:
        with pytest.raises(ValidationError, match="at least one"):
            ServiceLevel(fraction=0.9)


class TestSpec:
    def test_every_profile_has_a_counterpart_in_guidellm(self) -> None:
        spec = make_spec(
            profiles=[
                {"kind": "synchronous"},
                {"kind": "concurrent", "streams": 4},
                {"kind": "throughput", "max_concurrency": 64},
                {"kind": "constant", "rate_per_s": 2.5},
                {"kind": "poisson", "rate_per_s": 2.5},
                {"kind": "sweep", "num_loads": 5, "arrivals": "poisson"},
            ]
        )
        assert [guidellm_profile(profile) for profile in spec.profiles] == [
            {"kind": "synchronous"},
            {"kind": "concurrent", "streams": [4]},
            {"kind": "throughput", "max_concurrency": 64},
            {"kind": "constant", "rate": [2.5]},
            {"kind": "poisson", "rate": [2.5]},
            {"kind": "sweep", "sweep_size": 5, "strategy_type": "poisson"},
        ]

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"num_requests": None}, "would never end"),
            ({"profiles": []}, "at least 1"),
            ({"profiles": [{"kind": "synchronous"}] * 2}, "listed twice: synchronous"),
            ({"profiles": [{"kind": "constant"}]}, "rate_per_s"),
            ({"profiles": [{"kind": "burst"}]}, "'synchronous', 'concurrent'"),
            ({"server": {"max_model_len": 64}}, "96 tokens, but server.max_model_len is 64"),
            ({"workload": {"prompt_tokens": {"mean": 9, "max": 12}, "output_tokens": 1}}, "stdev"),
            ({"workload": "chatt"}, "did you mean 'chat'"),
            ({"hardware": "a laptop"}, "pattern"),
            ({"repeats": 0}, "greater than or equal to 1"),
            ({"rate": 3}, "Extra inputs"),
        ],
    )
    def test_what_cannot_be_measured_is_refused(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(Exception, match=words):
            make_spec(**fields)

    def test_occasion_and_hardware_are_part_of_the_spec(self) -> None:
        plain = make_spec()
        assert plain.model_dump() != make_spec(occasion="2026-11-21").model_dump()
        assert plain.model_dump() != make_spec(hardware="cpu-test-4").model_dump()

    def test_name_of_a_standard_stands_for_its_content(self) -> None:
        named = make_spec(workload="chat")
        assert named == make_spec(workload={"prompt_tokens": 512, "output_tokens": 256})

    def test_everything_wrong_with_a_spec_is_told_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a name stands for, and what machine this is, are fields like all others."""

        def no_answer() -> tuple[Gpu, ...]:
            raise EnvironmentMissing("nvidia-smi does not answer")

        monkeypatch.setattr(hardware, "list_gpus", no_answer)
        with pytest.raises(ValidationError) as caught:
            BenchmarkSpec.model_validate({"model": REF, "workload": "chatt", "repeats": 0})
        said = {error["loc"]: error["msg"] for error in caught.value.errors()}
        assert set(said) == {("workload",), ("repeats",), ("hardware",)}
        assert "did you mean 'chat'?" in said["workload",]
        assert "this machine is not known: nvidia-smi does not answer" in said["hardware",]

    def test_repeats_are_interleaved_and_a_linear_drift_cancels(self) -> None:
        profiles = (Synchronous(), Concurrent(streams=4), Throughput())
        order = list(in_order(profiles, 4))
        assert sorted(repeat for repeat, _ in order) == [r for r in range(4) for _ in profiles]
        for profile in profiles:
            positions = [at for at, (_, other) in enumerate(order) if other == profile]
            assert sum(positions) / 4 == (len(order) - 1) / 2

    def test_each_load_and_repeat_has_prompts_of_its_own_equal_for_all_models(self) -> None:
        seeds = {
            derived_seed(seed, load, repeat)
            for seed in (0, 1)
            for load in ("synchronous", "throughput")
            for repeat in range(50)
        }
        assert len(seeds) == 200
        assert derived_seed(42, "synchronous", 1) == 409545212


class TestHardware:
    def test_the_driver_is_asked_once_for_any_number_of_specs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        gpu = Gpu(0, "GPU-0", "NVIDIA H200", 143771)
        monkeypatch.setattr(hardware, "list_gpus", lambda: asked.append(1) or (gpu,))
        specs = [make_spec(hardware=hardware.THIS_MACHINE, seed=seed) for seed in range(5)]
        assert {spec.hardware for spec in specs} == {"gpu-nvidia-h200-1"}
        assert len(asked) == 1

    def test_class_names_model_and_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus = tuple(Gpu(n, f"GPU-{n}", "NVIDIA H200", 143771) for n in range(8))
        monkeypatch.setattr(hardware, "list_gpus", lambda: gpus)
        assert hardware.found_class() == "gpu-nvidia-h200-8"
        assert hardware.this_machine() == "gpu-nvidia-h200-1"

    def test_cpu_counts_the_cores_that_may_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hardware, "list_gpus", lambda: ())
        monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _pid: {0, 1, 5})
        name = "AMD EPYC(TM) 9755 128-Core Processor @ 2.70GHz"
        monkeypatch.setattr(hardware, "cpu_model", lambda: name)
        assert hardware.found_class() == "cpu-amd-epyc-9755-3"

    def test_this_machine_becomes_its_class(self) -> None:
        spec = make_spec(hardware="this machine")
        assert spec.hardware == hardware.this_machine()
        assert BenchmarkSpec.model_validate(spec.model_dump()) == spec


class TestCheck:
    def result(self, *points: LoadPoint, found: str = "cpu-test-2") -> BenchmarkResult:
        return BenchmarkResult(
            points=points, hardware=found, server_startup_s=1.0, report=REF, server_log=REF
        )

    def test_every_load_was_measured_in_every_repeat(self, recorded: dict[str, Any]) -> None:
        spec = make_spec(profiles=[{"kind": "concurrent", "streams": 4}], repeats=2)
        both = [point_of(recorded, repeat=repeat) for repeat in (0, 1)]
        check(spec, self.result(*both), Path)
        with pytest.raises(ValueError, match="'concurrent 4' was measured 0 times in repeat 1"):
            check(spec, self.result(both[0]), Path)

    def test_other_hardware_is_refused(self, recorded: dict[str, Any]) -> None:
        spec = make_spec(profiles=[{"kind": "concurrent", "streams": 4}], repeats=1)
        with pytest.raises(ValueError, match="declared is 'cpu-test-2'"):
            check(spec, self.result(point_of(recorded), found="gpu-x-1"), Path)

    def test_loads_of_a_sweep_are_counted_from_one(self, recorded: dict[str, Any]) -> None:
        spec = make_spec(profiles=[{"kind": "sweep", "num_loads": 3}], repeats=1)
        points = [
            load_point(recorded, Sweep(num_loads=3), repeat=0, index=n, service_level=None)
            for n in (1, 2, 3)
        ]
        assert [point.load for point in points] == ["sweep 1", "sweep 2", "sweep 3"]
        check(spec, self.result(*points), Path)


# (prompt, output) tokens on average, and whether sizes vary by (stdev 128, 64) up to the mean.
REFERENCE_WORKLOADS = {
    "chat": (512, 256),
    "code_completion": (256, 1024),
    "code_fixing": (1024, 1024),
    "docstring_generation": (768, 128),
    "instruction": (256, 128),
    "long_rag": (10240, 1536),
    "rag": (1024, 128),
    "summarization": (4096, 512),
    "16k": (16000, 2048),
    "32k": (32000, 2048),
    "64k": (64000, 2048),
    "128k": (128000, 2048),
}


@pytest.mark.parametrize("name", REFERENCE_WORKLOADS)
def test_standard_has_the_references_numbers(name: str) -> None:
    prompt, output = REFERENCE_WORKLOADS[name]
    fixed = make_spec(workload=name).workload.model_dump(exclude_none=True)
    assert fixed == {
        "prompt_tokens": {"mean": prompt, "stdev": 0},
        "output_tokens": {"mean": output, "stdev": 0},
    }
    if name == "summarization":
        prompt, output = 1024, 128  # the reference's two forms disagree
    varied = make_spec(workload=f"{name}_varied").workload.model_dump()
    assert varied == {
        "prompt_tokens": {"mean": prompt, "stdev": 128, "min": 1, "max": prompt},
        "output_tokens": {"mean": output, "stdev": 64, "min": 1, "max": output},
    }


@pytest.mark.parametrize("form", ["", "_varied"])
@pytest.mark.parametrize("name", REFERENCE_WORKLOADS)
def test_standard_as_a_whole_sweeps_over_loads_with_the_references_timeout(
    name: str, form: str
) -> None:
    found = BenchmarkSpec(
        model=REF, standard=f"{name}{form}", num_requests=8, hardware="cpu-test-4"
    )
    assert [profile.kind for profile in found.profiles] == ["sweep"]
    assert found.request_timeout_s == 21600
    assert found.workload == make_spec(workload=f"{name}{form}").workload


def test_a_benchmark_may_override_its_standard_and_not_contradict_it() -> None:
    single = {"profiles": [{"kind": "synchronous"}]}
    fields: dict[str, Any] = {
        "model": REF,
        "standard": "chat",
        "num_requests": 8,
        "hardware": "cpu-test-4",
    }
    found = BenchmarkSpec(**fields, overrides=single)
    assert [profile.kind for profile in found.profiles] == ["synchronous"]
    with pytest.raises(ValidationError, match=r"in standard 'chat' \(/.*chat.yaml:11:3\)"):
        BenchmarkSpec(**fields, **single)


def test_guidellms_own_scenarios_are_standards() -> None:
    chat, rag = (make_spec(workload=f"guidellm_{name}").workload for name in ("chat", "rag"))
    assert chat.prompt_tokens.model_dump() == {"mean": 512, "stdev": 128, "min": 1, "max": 1024}
    assert chat.output_tokens.model_dump() == {"mean": 256, "stdev": 64, "min": 1, "max": 1024}
    assert rag.prompt_tokens.model_dump() == {"mean": 4096, "stdev": 512, "min": 2048, "max": 6144}
    assert rag.output_tokens.model_dump() == {"mean": 512, "stdev": 128, "min": 1, "max": 1024}


def test_there_are_no_other_benchmarking_standards() -> None:
    varied = {f"{name}_varied" for name in REFERENCE_WORKLOADS}
    expected = {*REFERENCE_WORKLOADS, *varied, "guidellm_chat", "guidellm_rag"}
    assert set(names(StandardKind.BENCHMARKING)) == expected
