"""The benchmark's body with the real guidellm, against a server that is told how to behave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.artifacts import LocalPath
from tasks.benchmark.spec import BenchmarkResult, BenchmarkSpec
from tests.fakes.body_runs import Answer, run_bodies
from tests.fakes.tiny_model import tiny_model  # noqa: F401
from tests.fakes.vllm import install

SYNCHRONOUS = {"kind": "synchronous"}


def make_spec(model: Path, folder: Path, behaviour: str, **fields: Any) -> BenchmarkSpec:
    return BenchmarkSpec.model_validate(
        {
            "model": LocalPath(path=model),
            "workload": {"prompt_tokens": 12, "output_tokens": 6},
            "num_requests": 5,
            "warmup_requests": 2,
            "repeats": 1,
            "profiles": [SYNCHRONOUS],
            "server": {
                "environment": {"FAKE_VLLM": behaviour, "FAKE_VLLM_PIDS": str(folder / "pids")}
            },
            **fields,
        }
    )


@pytest.fixture(scope="module")
def answers(
    tiny_model: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Answer]:
    """All runs, in one process that imports guidellm once."""
    folder = tmp_path_factory.mktemp("benchmark")
    install(folder / "home" / "labwright")
    every_profile = [
        SYNCHRONOUS,
        {"kind": "concurrent", "streams": 2},
        {"kind": "sweep", "num_loads": 3},
    ]

    def spec(behaviour: str, **fields: Any) -> BenchmarkSpec:
        return make_spec(tiny_model, folder, behaviour, **fields)

    return run_bodies(
        "tasks.benchmark.body",
        folder,
        {
            "every profile": spec(
                "fails every fifth",
                profiles=every_profile,
                max_error_fraction=0.5,
                service_level={"latency_s": 60, "fraction": 0.75},
            ),
            "separators": spec("says line separators", warmup_requests=0),
            "a death": spec("dies while serving", warmup_requests=0, num_requests=1000),
            "pickled": make_spec(pickled_model(tiny_model, folder / "model"), folder, "healthy"),
            "other hardware": spec("healthy", hardware="gpu-abacus-1"),
            "too long": spec("healthy", workload={"prompt_tokens": 400, "output_tokens": 400}),
        },
    )


def result_of(answer: Answer) -> BenchmarkResult:
    assert answer.error is None
    return BenchmarkResult.model_validate(answer.result)


def test_every_profile_is_measured(answers: dict[str, Answer]) -> None:
    result = result_of(answers["every profile"])
    labels = "synchronous", "concurrent 2", "sweep 1", "sweep 2", "sweep 3"
    assert tuple(point.load for point in result.points) == labels
    for point in result.points:
        assert point.ttft_ms is not None
        assert point.itl_ms is not None
        assert point.latency_s is not None
        assert 5 <= point.ttft_ms.p50 < 1000 * point.latency_s.p50
        assert point.itl_ms.p50 > 0
        assert point.output_tokens_per_s == pytest.approx(6 * point.requests_per_s)
    kinds = [point.kind for point in result.points]
    assert kinds[2:] == ["synchronous", "throughput", "constant"]
    assert result.points[1].concurrency == 2
    assert result.points[4].rate_per_s is not None


def test_progress_is_reported_load_by_load(answers: dict[str, Answer]) -> None:
    lines = answers["every profile"].metrics
    assert [(line["step"], line["num_steps"]) for line in lines] == [(n, 3) for n in range(1, 4)]


def test_reports_are_kept_without_texts_and_without_the_key(answers: dict[str, Answer]) -> None:
    reports = sorted((answers["every profile"].out / "guidellm").iterdir())
    assert len(reports) == 3
    for path in reports:
        report = json.loads(path.read_text())
        assert set(report["config"]["spec"]["backend"]["api_key"]) == {"*"}
        requests = report["benchmarks"][0]["requests"]["successful"]
        assert len(requests) == 4
        assert not any(request.get("output") for request in requests)


def test_failed_requests_are_counted_and_not_timed(answers: dict[str, Answer]) -> None:
    for point in result_of(answers["every profile"]).points:
        assert (point.num_successful, point.num_errored) == (4, 1)
        assert point.error_fraction == pytest.approx(0.2)
        assert point.slo_met_fraction == pytest.approx(0.8)
        assert point.slo_met is True


def test_words_that_look_like_line_ends_are_no_errors(answers: dict[str, Answer]) -> None:
    (point,) = result_of(answers["separators"]).points
    assert (point.num_successful, point.num_errored) == (5, 0)


def test_server_that_dies_fails_the_step_with_its_last_words(answers: dict[str, Answer]) -> None:
    error = answers["a death"].error
    assert error is not None
    assert "the vLLM server ended with exit status 1" in error
    assert "engine core died" in error


def test_other_hardware_than_declared_is_refused(answers: dict[str, Answer]) -> None:
    assert "declares hardware 'gpu-abacus-1'" in str(answers["other hardware"].error)


def pickled_model(model: Path, target: Path) -> Path:
    """A copy whose weights are pickled, as old models' are."""
    shutil.copytree(model, target)
    (target / "model.safetensors").rename(target / "pytorch_model.bin")
    return target


def test_pickled_weights_are_refused_before_a_server_starts(answers: dict[str, Answer]) -> None:
    assert "pytorch_model.bin, pickled weights, which can run code" in str(answers["pickled"].error)
    assert not (answers["pickled"].out / "vllm.log").exists()


def test_requests_longer_than_the_model_are_refused(answers: dict[str, Answer]) -> None:
    expected = "a request may have 800 tokens, but the model has 512 positions"
    assert answers["too long"].error == expected


def test_no_server_is_left(answers: dict[str, Answer]) -> None:
    pids = (answers["a death"].out.parent / "pids").read_text().split()
    assert len(pids) == 3
    assert not [pid for pid in pids if psutil.pid_exists(int(pid))]
