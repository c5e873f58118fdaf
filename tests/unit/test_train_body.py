"""Training learns, resumes bit for bit, and fails in words."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.artifacts import ArtifactKind
from tasks.prepare.spec import PrepareResult, PrepareSpec
from tasks.spec import DeviceKind
from tasks.train.check import check
from tasks.train.spec import TrainResult, TrainSpec
from tests.fakes.workbench import Workbench, write_corpus

NUM_STEPS = 60


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums have the same order here and in a killed process only with as many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def prepared(bench: Workbench) -> PrepareResult:
    from tasks.prepare.body import main

    corpus = bench.ref(write_corpus(bench.folder / "corpus"), ArtifactKind.TEXT)
    model = {
        "kind": "config",
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "tie_embeddings": True,
    }
    spec = PrepareSpec.model_validate(
        {
            "model": model,
            "tokenizer": {"kind": "train", "vocab_size": 400},
            "text": {"source": corpus, "target_document_characters": None},
            "split": {"validation_fraction": 0.15},
            "sequence_length": 32,
        }
    )
    return bench.run(main, spec, "prepare")


def train_spec(prepared: PrepareResult, **changes: Any) -> TrainSpec:
    fields = {
        "model": prepared.model,
        "train_tokens": prepared.train_tokens,
        "validation_tokens": prepared.validation_tokens,
        "num_steps": NUM_STEPS,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 5e-3,
        "warmup_steps": 5,
        "device_kind": DeviceKind.CPU,
        "log_every_steps": 4,
        "evaluate_every_steps": 20,
        "checkpoint_every_steps": 7,
    }
    return TrainSpec.model_validate(fields | changes)


@pytest.fixture(scope="module")
def uninterrupted(bench: Workbench, prepared: PrepareResult) -> TrainResult:
    from tasks.train.body import main

    spec = train_spec(prepared)
    result = bench.run(main, spec, "uninterrupted")
    check(spec, result, bench.path)
    return result


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(out: Path) -> list[tuple[int, float | None, float | None]]:
    """(step, loss, validation loss) of every line of a run's metrics."""
    return [
        (line["step"], line.get("loss"), line.get("validation_loss"))
        for line in lines(out / "metrics.jsonl")
    ]


def test_the_loss_falls_and_the_curve_says_so(bench: Workbench, uninterrupted: TrainResult) -> None:
    assert uninterrupted.final_train_loss < uninterrupted.initial_train_loss - 0.5
    assert uninterrupted.initial_validation_loss is not None
    assert uninterrupted.final_validation_loss is not None
    assert uninterrupted.final_validation_loss < uninterrupted.initial_validation_loss - 0.5
    curve = lines(bench.path(uninterrupted.curve))
    assert [line["step"] for line in curve if "validation_loss" in line] == [0, 20, 40, 60]
    assert [line["step"] for line in curve if "loss" in line] == list(range(4, 61, 4))
    assert not [name for line in curve for name in line if name.endswith("_per_s")]
    logged = lines(bench.folder / "uninterrupted" / "metrics.jsonl")
    assert all(line["tokens_per_s"] > 0 for line in logged if "loss" in line)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))]
)
def test_a_killed_run_repeats_the_uninterrupted_one_bit_for_bit(
    bench: Workbench, prepared: PrepareResult, uninterrupted: TrainResult, seed: int
) -> None:
    from tasks.train.body import main

    spec = train_spec(prepared)
    kill_after = random.Random(seed).randrange(8, NUM_STEPS - 8)
    killed = f"killed-{seed}"
    process = bench.start("tasks.train.body", spec, killed, checkpoints=killed)
    metrics = bench.folder / killed / "metrics.jsonl"
    while not (metrics.exists() and losses_reached(metrics, kill_after)):
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (bench.folder / killed / "result.json").exists()

    resumed = bench.run(main, spec, f"resumed-{seed}", checkpoints=killed)
    assert resumed == uninterrupted, f"killed after step {kill_after}"
    whole, again = bench.folder / "uninterrupted", bench.folder / f"resumed-{seed}"
    assert losses(again) == losses(whole)
    timed = [line["step"] for line in lines(again / "metrics.jsonl") if "tokens_per_s" in line]
    assert min(timed) > 4, "steps before the checkpoint were made again"


def losses_reached(metrics: Path, step: int) -> bool:
    complete = metrics.read_text().rpartition("\n")[0].splitlines()
    return bool(complete) and json.loads(complete[-1])["step"] >= step


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(
    bench: Workbench,
    prepared: PrepareResult,
    uninterrupted: TrainResult,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from shutil import copytree

    from tasks.train.body import main

    copytree(bench.folder / "uninterrupted-checkpoints", bench.folder / "torn-checkpoints")
    newest = bench.folder / "torn-checkpoints" / "step-00000056" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    result = bench.run(main, train_spec(prepared), "torn")
    said = capsys.readouterr().err
    assert "step-00000056 is damaged and not used" in said
    assert "going on from the checkpoint after step 49 of 60" in said
    assert result == uninterrupted


def test_checkpoints_of_another_spec_are_not_used(
    bench: Workbench,
    prepared: PrepareResult,
    uninterrupted: TrainResult,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tasks.train.body import main

    spec = train_spec(prepared, seed=1)
    result = bench.run(main, spec, "other-seed", checkpoints="uninterrupted")
    assert "belongs to another spec" in capsys.readouterr().err
    assert result.model != uninterrupted.model


def test_accumulated_micro_batches_make_the_step_of_one_large_batch(
    bench: Workbench, prepared: PrepareResult, uninterrupted: TrainResult
) -> None:
    from tasks.train.body import main

    whole = train_spec(prepared, batch_size=8, gradient_accumulation_steps=1, num_steps=12)
    split = train_spec(prepared, batch_size=2, gradient_accumulation_steps=4, num_steps=12)
    one = lines(bench.path(bench.run(main, whole, "one-batch").curve))
    four = lines(bench.path(bench.run(main, split, "four-batches").curve))
    for left, right in zip(one, four, strict=True):
        if "loss" in left:
            assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)


def test_activation_checkpointing_changes_memory_and_not_the_numbers(
    bench: Workbench, prepared: PrepareResult
) -> None:
    from tasks.train.body import main

    plain = bench.run(main, train_spec(prepared, num_steps=8), "kept")
    again = bench.run(
        main, train_spec(prepared, num_steps=8, activation_checkpointing=True), "recomputed"
    )
    assert again.final_train_loss == pytest.approx(plain.final_train_loss, rel=1e-5)


def test_a_run_that_diverges_fails_in_words_and_writes_no_model(
    bench: Workbench, prepared: PrepareResult
) -> None:
    from tasks.train.body import main
    from tasks.train.trainer import DivergenceError

    spec = train_spec(prepared, learning_rate=100.0, warmup_steps=0, max_gradient_norm=1e30)
    with pytest.raises(
        DivergenceError, match=r"step \d+.*loss .*gradient norm .*learning rate .*lower"
    ):
        bench.run(main, spec, "diverged")
    assert not (bench.folder / "diverged" / "model").exists()


def test_weights_that_are_not_numbers_are_refused_before_training(
    bench: Workbench, prepared: PrepareResult
) -> None:
    from shutil import copytree

    import torch
    from safetensors.torch import load_file, save_file

    from tasks.train.body import main

    folder = copytree(bench.path(prepared.model), bench.folder / "with-nan")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    spec = train_spec(prepared, model=bench.ref(folder, ArtifactKind.MODEL))
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 tensors, first model\.norm"):
        bench.run(main, spec, "nan-in")


def test_a_gpu_that_is_not_there_is_asked_for_in_vain(
    bench: Workbench, prepared: PrepareResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tasks.train.body import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"no usable CUDA device.*device_kind: cpu"):
        bench.run(main, train_spec(prepared, device_kind=DeviceKind.CUDA), "no-gpu")


def test_embeddings_norms_and_biases_do_not_decay(
    bench: Workbench, prepared: PrepareResult
) -> None:
    import torch

    from tasks.train.model import decay_groups, load

    spec = train_spec(prepared)
    model = load(bench.path(prepared.model), spec, torch.device("cpu"))
    decayed, plain = decay_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in plain["params"]} == {
        name for name in names.values() if "norm" in name or "embed" in name
    }
    assert all(".weight" in names[id(p)] and "proj" in names[id(p)] for p in decayed["params"])
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_the_trained_folder_loads_with_its_tokenizer(
    bench: Workbench, uninterrupted: TrainResult
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = bench.path(uninterrupted.model)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    assert model.config.use_cache
    assert model.num_parameters() == uninterrupted.num_parameters
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert (folder / "generation_config.json").is_file()
