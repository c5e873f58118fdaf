"""The body of train: choose the device, load model and tokens, resume, train, save.

A killed run starts from its newest whole checkpoint and then repeats, bit for bit on the same kind
of device, what the uninterrupted run would have done: its curve is the same file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tasks.artifacts import ArtifactKind
from tasks.body import BodyContext, run_body
from tasks.model_folder import check_model_folder, num_parameters
from tasks.spec import DeviceKind
from tasks.train import model as models
from tasks.train.spec import TrainResult, TrainSpec
from tasks.train.trainer import Trainer


def main(spec: TrainSpec, context: BodyContext) -> TrainResult:
    """Train from the spec's model, or go on from a checkpoint; ValueError for unusable inputs."""
    device = select_device(spec.device_kind)
    with repeatable_arithmetic(spec.deterministic):
        source = context.path(spec.model)
        model = models.load(source, spec, device)
        trainer = Trainer(
            spec,
            context,
            model,
            train_tokens=load_tokens(context.path(spec.train_tokens), model),
            validation_tokens=(
                load_tokens(context.path(spec.validation_tokens), model)
                if spec.validation_tokens is not None
                else None
            ),
        )
        trainer.resume(say)
        trainer.train()
    folder = context.out / "model"
    models.save(model, source, folder, spec)
    return answer(spec, context, trainer, folder)


def answer(spec: TrainSpec, context: BodyContext, trainer: Trainer, folder: Path) -> TrainResult:
    """The result; it holds nothing that another run of the same spec would answer differently."""
    curve = trainer.curve
    num_sequences = spec.num_steps * spec.num_sequences_per_step
    final_train_loss = curve.last("loss")
    if curve.first_loss is None or final_train_loss is None:
        raise RuntimeError("the training loop ended without a logged step")
    return TrainResult(
        model=context.artifact(ArtifactKind.MODEL, folder, "trained model"),
        curve=context.artifact(
            ArtifactKind.METRICS, curve.write(context.out / "curve.jsonl"), "training curve"
        ),
        initial_train_loss=curve.first_loss,
        final_train_loss=final_train_loss,
        initial_validation_loss=curve.first("validation_loss"),
        final_validation_loss=curve.last("validation_loss"),
        num_steps=spec.num_steps,
        num_tokens=num_sequences * trainer.train_tokens.shape[1],
        num_epochs=num_sequences / trainer.train_tokens.shape[0],
        num_parameters=num_parameters(check_model_folder(folder)),
        size_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
    )


def say(words: str) -> None:
    """Tell whoever reads the log."""
    print(words, file=sys.stderr, flush=True)


def select_device(kind: DeviceKind) -> torch.device:
    """The device to compute on; ValueError where the spec's kind is not here."""
    if kind is DeviceKind.CUDA and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise ValueError(
            "device_kind is cuda, and there is no usable CUDA device here (torch "
            f"{torch.__version__}, CUDA_VISIBLE_DEVICES {visible or 'empty or not set'}); set "
            "device_kind: cpu, or place the step on a machine with a GPU"
        )
    return torch.device(kind.value)


@contextmanager
def repeatable_arithmetic(is_wanted: bool) -> Iterator[None]:
    """Within it torch refuses operations that may give other bits the next time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(is_wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def load_tokens(folder: Path, model: Any) -> torch.Tensor:
    """int32 [num_sequences, sequence_length]; ValueError where the model cannot read them."""
    tokens: torch.Tensor = load_file(folder / "tokens.safetensors")["input_ids"]
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokens.shape[1] > longest:
        raise ValueError(
            f"the sequences have {tokens.shape[1]} tokens, the model reads {longest}: lower "
            "prepare's sequence_length"
        )
    highest = int(tokens.max())
    if highest >= model.config.vocab_size:
        raise ValueError(
            f"the sequences hold token {highest}, the model knows {model.config.vocab_size}: they "
            "were made with another tokenizer"
        )
    return tokens


if __name__ == "__main__":
    run_body(TrainSpec, main)
