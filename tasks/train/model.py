"""The model that is trained: read from a folder, judged to be whole, written to a folder.

Weights are float32 while they are trained; a tied weight is one weight.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tasks.model_folder import TOKENIZER_FILES, check_model_folder, copy_files
from tasks.train.spec import TrainSpec


def load(folder: Path, spec: TrainSpec, device: torch.device) -> Any:
    """A causal language model in float32 on the device; ValueError where it cannot be trained."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    check_model_folder(folder)
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    refuse_nonfinite(model, "the model to start from")
    model.config.use_cache = False
    if spec.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.to(device).train()


def save(model: Any, source: Path, folder: Path, spec: TrainSpec) -> None:
    """Write the weights in the spec's dtype, and the tokenizer and generation settings beside."""
    refuse_nonfinite(model, "the trained model")
    model.config.use_cache = True
    model.to(getattr(torch, spec.save_dtype.value)).save_pretrained(folder)
    copy_files(source, folder, (*TOKENIZER_FILES, "generation_config.json"))


def refuse_nonfinite(model: torch.nn.Module, what: str) -> None:
    """ValueError names the tensors that hold NaN or infinity."""
    bad = [name for name, value in model.named_parameters() if not value.isfinite().all()]
    if bad:
        raise ValueError(f"{what} holds NaN or infinity in {len(bad)} tensors, first {bad[0]}")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor that makes the model, once: parameters and buffers that are saved."""
    found: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in seen:
            seen.add(key)
            found[name] = tensor
    return found


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; embeddings, norms and biases don't. A tied embedding is an embedding."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if is_matrix else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
