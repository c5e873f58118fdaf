"""The main job, end to end, with every part real: torch, llmcompressor, lm-eval, vLLM, guidellm."""

from __future__ import annotations

import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

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
from tasks.verdict import GateResult, Verdict
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


def test_the_gate_says_what_the_numbers_of_the_run_say(quickstart: QuickstartRun) -> None:
    gate = GateResult.model_validate(quickstart.summary["gates"]["gate"])
    assert gate == quickstart.result("gate", "gate")
    assert gate.passed
    quality, size = gate.criteria["quality"], gate.criteria["size"]
    rows = {row.name: row for row in quickstart.result("analysis", "analyze").rows}
    compared = {recovery.label: recovery.comparison for recovery in rows["w8a8"].recoveries}
    found = compared["heldout_text/bits_per_byte"]
    assert (quality.number, quality.low, quality.high) == (found.estimate, found.low, found.high)
    assert quality.low is not None
    is_sure = quality.low > quality.threshold
    assert quality.verdict is (Verdict.PASSED if is_sure else Verdict.INCONCLUSIVE)
    assert size.number == quickstart.result("w8a8", "compress").size_ratio
    assert size.verdict is Verdict.PASSED


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


@pytest.fixture(scope="module")
def rerun(quickstart: QuickstartRun) -> dict[str, Any]:
    """The same again: what `labwright run --json` says, and how long it took."""
    variables = {
        "LABWRIGHT_HOME": str(quickstart.home),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    started = time.monotonic()
    again = labwright("run", str(FILE), "--json", *small_arguments(), **variables)
    seconds = time.monotonic() - started
    assert again.returncode == 0, again.stderr
    return {**json.loads(again.stdout), "wall_s": seconds}


def test_a_warm_rerun_is_cached_and_needs_no_server(
    quickstart: QuickstartRun, rerun: dict[str, Any], figure: Figure
) -> None:
    summary, seconds = rerun, rerun["wall_s"]
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


# -- what is asked about the real run, as it is typed --------------------------------------


def asked(quickstart: QuickstartRun, *arguments: str) -> Any:
    """What the command printed as JSON; it ended well."""
    said = labwright(*arguments, "--json", LABWRIGHT_HOME=str(quickstart.home))
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_a_run_compared_with_its_rerun_has_nothing_that_differs(
    quickstart: QuickstartRun, rerun: dict[str, Any]
) -> None:
    found = asked(quickstart, "compare", quickstart.summary["id"], rerun["id"])
    (other,) = found["others"]
    assert other["modifications"] == []
    assert {row["outcome"] for row in other["rows"]} == {"equal"}
    assert len(other["rows"]) > 20
    assert found["problems"] == []


def test_variants_of_the_real_run_are_compared_step_against_step(
    quickstart: QuickstartRun, rerun: dict[str, Any]
) -> None:
    matches = ("evaluate_baseline=evaluate_w4a16", "benchmark_baseline=benchmark_w8a8")
    words = [word for match in matches for word in ("--match", match)]
    names = (quickstart.summary["id"], rerun["id"])
    found = asked(quickstart, "compare", *names, *words, "--no-worse-than", "20%")
    (text,) = [
        row
        for row in found["others"][0]["rows"]
        if row["step"] == "evaluate_baseline / evaluate_w4a16"
        and row["what"] == "heldout_text/bits_per_byte"
    ]
    assert text["paired"]["low"] <= text["other"] - text["baseline"] <= text["paired"]["high"]
    assert text["no_worse"]["verdict"] == "no worse"


def test_the_facts_of_the_real_run_are_those_of_its_results(quickstart: QuickstartRun) -> None:
    found = asked(quickstart, "analyze", str(quickstart.summary["id"]))
    assert found["status"] == "done"
    kinds = {fact["kind"] for fact in found["facts"]}
    assert {"the run", "performance", "bottlenecks", "against the baseline"} <= kinds
    row = quickstart.result("analysis", "analyze").rows[1]
    told = [fact["numbers"].get("recovery") for fact in found["facts"]]
    for recovery in row.recoveries:
        assert recovery.comparison.estimate in told


def test_the_page_of_the_real_run_is_one_file_with_its_scores(
    quickstart: QuickstartRun, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    said = labwright(
        "report",
        str(quickstart.summary["id"]),
        "--out",
        str(page),
        LABWRIGHT_HOME=str(quickstart.home),
    )
    assert said.returncode == 0, said.stderr
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text), "nothing is fetched from anywhere"
    for name in ("baseline", *COMPRESSED, "heldout_choice", str(quickstart.summary["id"])):
        assert name in text


def test_a_model_of_the_real_run_is_published_with_its_files_and_a_card(
    quickstart: QuickstartRun, tmp_path: Path
) -> None:
    target = tmp_path / "w8a8"
    words = ("--to", str(target), "--step", "w8a8", "--license", "apache-2.0")
    told = asked(quickstart, "publish", str(quickstart.summary["id"]), *words)
    assert told["step"] == "w8a8"
    original = quickstart.path(quickstart.result("w8a8", "compress").model)
    for path in original.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert (target / path.relative_to(original)).read_bytes() == path.read_bytes()
    card = (target / "README.md").read_text()
    (score,) = [
        score
        for score in quickstart.result("evaluate_w8a8", "evaluate").scores
        if score.metric == "bits_per_byte"
    ]
    assert re.search(rf"\| heldout_text/bits_per_byte \| {score.value:.4g} \(.* to .*\) \|", card)
    assert "concurrent 4" in card
    assert "SmoothQuantModifier" in card
    assert (target / "labwright" / "experiment.yaml").read_text()
