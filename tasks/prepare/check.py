"""What must hold of a prepared result before it is kept. Needs no torch.

Token files say in their headers that they are what training expects, and the model's weights are
whole and fit their config.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks.artifacts import ArtifactRef
from tasks.model_folder import check_model_folder, safetensors_header
from tasks.prepare.spec import PrepareResult, PrepareSpec


def check_tokens(folder: Path, sequence_length: int) -> None:
    """ValueError unless the folder holds int32 `input_ids` [num_sequences, sequence_length]."""
    found = safetensors_header(folder / "tokens.safetensors").get("input_ids")
    if found is None or found.dtype != "I32" or found.shape[1:] != (sequence_length,):
        raise ValueError(f"{folder.name}: expected int32 input_ids [*, {sequence_length}]: {found}")
    if not found.shape[0]:
        raise ValueError(f"{folder.name} holds no sequence")


def check(
    spec: PrepareSpec, result: PrepareResult, open_artifact: Callable[[ArtifactRef], Path]
) -> None:
    """ValueError in words where something that was asked for is missing or malformed."""
    wanted = {
        "model": spec.model is not None,
        "train_tokens": spec.sequence_length is not None,
        "calibration": spec.calibration is not None,
        "eval_tasks": spec.heldout is not None,
    }
    for name, is_wanted in wanted.items():
        if is_wanted and getattr(result, name) is None:
            raise ValueError(f"{name} was asked for and not made")
    if result.model is not None:
        check_model_folder(open_artifact(result.model))
    for tokens in (result.train_tokens, result.validation_tokens):
        if tokens is not None and spec.sequence_length is not None:
            check_tokens(open_artifact(tokens), spec.sequence_length)
    if result.calibration is not None and spec.calibration is not None:
        check_tokens(open_artifact(result.calibration), spec.calibration.sequence_length)
