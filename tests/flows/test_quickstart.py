"""The main job, end to end, with every part real: torch, llmcompressor, lm-eval, vLLM, guidellm."""

from __future__ import annotations

import json
import re
import time
import zipfile
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows.compress_and_evaluate import BASELINE, compress_and_evaluate
from flows.experiment import unpack_bundle
from tasks.benchmark import BenchmarkSpec
from tasks.compress import CompressSpec
from tasks.evaluate import EvaluateSpec
from tasks.metrics import read_metrics
from tasks.registry import step_of
from tasks.spec import Spec
from tasks.store import open_store
from tests.fakes.figures import Figure
from tests.fakes.quickstart import FILE, QuickstartRun, labwright, small_arguments

COMPRESSED = ("w8a8", "w4a16", "fp8_dynamic")


def spec_of(quickstart: QuickstartRun, name: str, kind: str) -> Spec:
    """The spec that a step of the run was computed from."""
    identity = quickstart.summary["steps"][name]["identity"]
    record = open_store(quickstart.home).read_record(kind, identity)
    assert record is not None
    spec: Spec = step_of(kind).spec_type.model_validate(record.spec)
    return spec


def test_the_main_job_is_done_and_prints_one_object(
    quickstart: QuickstartRun, figure: Figure
) -> None:
    summary = quickstart.summary
    assert summary["status"] == "done"
    assert {step["state"] for step in summary["steps"].values()} <= {"done", "cached"}
    assert all(len(step["identity"]) == 64 for step in summary["steps"].values())
    assert all(item["state"] == "delivered" for item in summary["deliverables"].values())
    assert Path(summary["report"]).is_file()
    figure("quickstart with small sizes, cold", f"{quickstart.seconds:.0f} s")


def test_the_loss_falls_and_its_curve_is_kept(quickstart: QuickstartRun) -> None:
    trained = quickstart.result("train", "train")
    assert trained.final_validation_loss < trained.initial_validation_loss - 0.5
    curve = read_metrics(quickstart.path(trained.curve))
    assert len([line for line in curve if "loss" in line]) >= 3


def test_nothing_that_models_are_judged_by_was_seen_in_training(quickstart: QuickstartRun) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    prepared = quickstart.result("data", "prepare")
    tokenizer = AutoTokenizer.from_pretrained(quickstart.path(prepared.tokenizer))
    seen = ""
    for ref in (prepared.train_tokens, prepared.calibration):
        tokens = load_file(quickstart.path(ref) / "tokens.safetensors")["input_ids"]
        seen += tokenizer.decode(tokens.reshape(-1).tolist())
    lines = [
        json.loads(line)
        for path in quickstart.path(prepared.test_documents).rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) >= 10
    for line in lines:
        middle = len(line["text"]) // 2
        assert line["text"][middle : middle + 120] not in seen


def test_three_compressed_models_are_smaller_and_load(quickstart: QuickstartRun) -> None:
    sizes = {name: quickstart.result(name, "compress").size_ratio for name in COMPRESSED}
    assert all(ratio < 0.9 for ratio in sizes.values()), sizes
    assert sizes["w4a16"] == min(sizes.values())


def test_every_variant_has_a_recovery_with_a_paired_interval(quickstart: QuickstartRun) -> None:
    rows = quickstart.result("analysis", "analyze").rows
    assert [row.name for row in rows] == ["baseline", *COMPRESSED]
    for row in rows[1:]:
        assert {r.label for r in row.recoveries} >= {
            "heldout_text/bits_per_byte",
            "heldout_choice/acc",
        }
        for recovery in row.recoveries:
            found = recovery.comparison
            assert found.low is not None, found.reason
            assert found.low <= found.estimate <= found.high


def test_a_real_server_was_benchmarked(quickstart: QuickstartRun) -> None:
    for name in ("benchmark_baseline", "benchmark_w8a8"):
        measured = quickstart.result(name, "benchmark")
        assert {point.load for point in measured.points} == {"synchronous", "concurrent 4"}
        for point in measured.points:
            assert point.num_errored == 0
            assert point.output_tokens_per_s > 0
            assert 0 < point.ttft_ms.p50 <= point.ttft_ms.p99
            assert 0 < point.itl_ms.p50 <= point.itl_ms.p99
        assert "vllm" in quickstart.path(measured.server_log).read_text(errors="replace").lower()


def test_the_bundle_holds_what_the_run_promised_and_unpacks_safely(
    quickstart: QuickstartRun, tmp_path: Path
) -> None:
    bundle = Path(quickstart.summary["bundle"])
    assert bundle.name == f"{quickstart.summary['id']}_artifacts.zip"
    unpack_bundle(bundle, tmp_path / "unpacked")
    names = zipfile.ZipFile(bundle).namelist()
    for part in (r"MANIFEST\.json$", r"model\.safetensors$", r"index\.html$", r"stderr"):
        assert any(re.search(part, name) for name in names), (part, names)


def test_a_warm_rerun_is_cached_and_needs_no_server(
    quickstart: QuickstartRun, figure: Figure
) -> None:
    variables = {
        "LABWRIGHT_HOME": str(quickstart.home),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    started = time.monotonic()
    again = labwright("run", str(FILE), "--json", *small_arguments(), **variables)
    seconds = time.monotonic() - started
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert {step["state"] for step in summary["steps"].values()} == {"cached"}
    assert summary["id"] != quickstart.summary["id"]
    identities = {name: step["identity"] for name, step in summary["steps"].items()}
    assert identities == {n: s["identity"] for n, s in quickstart.summary["steps"].items()}
    share = seconds / quickstart.seconds
    figure(
        "quickstart with small sizes, warm over cold",
        f"{seconds:.2f} s, {share:.1%}",
        aim="under 3 s, at most 1%",
        ratio=share,
    )


def test_one_change_runs_only_what_depends_on_it(
    quickstart: QuickstartRun, prefect_server: str, figure: Figure
) -> None:
    variables = {"LABWRIGHT_HOME": str(quickstart.home), "PREFECT_API_URL": prefect_server}
    change = small_arguments("analysis.title=Another title")
    planned = labwright("run", str(FILE), "--dry-run", "--json", *change, **variables)
    assert planned.returncode == 0, planned.stderr
    started = time.monotonic()
    again = labwright("run", str(FILE), "--json", *change, **variables)
    seconds = time.monotonic() - started
    assert again.returncode == 0, again.stderr
    steps = json.loads(again.stdout)["steps"]
    assert {name for name, step in steps.items() if step["state"] == "done"} == {"analysis"}
    assert steps["analysis"]["state"] == "done"
    own = steps["analysis"]["seconds"]
    figure(
        "quickstart, one step changed, over that step",
        f"{seconds - own:.2f} s",
        aim="at most 3 s",
        ratio=seconds / own,
    )


async def test_the_flow_called_from_python_finds_what_the_file_computed(
    quickstart: QuickstartRun, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", str(quickstart.home))
    evaluation = spec_of(quickstart, "evaluate_baseline", "evaluate")
    benchmark = spec_of(quickstart, "benchmark_baseline", "benchmark")
    w8a8 = spec_of(quickstart, "w8a8", "compress")
    assert isinstance(evaluation, EvaluateSpec)
    assert isinstance(benchmark, BenchmarkSpec)
    assert isinstance(w8a8, CompressSpec)
    state = await compress_and_evaluate({"w8a8": w8a8}, evaluation, benchmark, return_state=True)
    found = await state.result()
    assert [row.name for row in found.rows] == [BASELINE, "w8a8"]
    assert found.rows == tuple(
        row
        for row in quickstart.result("analysis", "analyze").rows
        if row.name in ("baseline", "w8a8")
    )
    async with get_client() as client:
        flow_run_id = state.state_details.flow_run_id
        runs = await client.read_task_runs()
        names = {run.name: run.state_name for run in runs if run.flow_run_id == flow_run_id}
    assert len(names) == 6
    assert sorted(names.values()) == ["Cached"] * 5 + ["Completed"]
