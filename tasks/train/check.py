"""What must hold of a trained model before it is kept. Needs no torch.

That the loss fell is reported, not demanded: an experiment may well be about a run where it does
not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks.artifacts import ArtifactRef
from tasks.model_folder import check_model_folder, num_parameters
from tasks.train.spec import SaveDtype, TrainResult, TrainSpec

STORED_AS = {SaveDtype.FLOAT32: "F32", SaveDtype.BFLOAT16: "BF16"}


def check(
    spec: TrainSpec, result: TrainResult, open_artifact: Callable[[ArtifactRef], Path]
) -> None:
    """ValueError in words where the model cannot be loaded or is not what the result says."""
    folder = open_artifact(result.model)
    tensors = check_model_folder(folder)
    wrong = [name for name, tensor in tensors.items() if tensor.dtype != STORED_AS[spec.save_dtype]]
    if wrong:
        raise ValueError(f"{wrong[0]} is {tensors[wrong[0]].dtype}, asked for {spec.save_dtype}")
    if num_parameters(tensors) != result.num_parameters:
        raise ValueError(
            f"the saved model has {num_parameters(tensors)} parameters, the result says "
            f"{result.num_parameters}"
        )
    if not (folder / "tokenizer_config.json").is_file():
        raise ValueError("the model's folder has no tokenizer")
    if not open_artifact(result.curve).read_bytes().strip():
        raise ValueError("the training curve is empty")
