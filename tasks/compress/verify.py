"""Checks of a compressed model as it lies on disk: nothing is reported that was not read back.

saved = read_saved(folder)                              # headers, format, quantized modules
check_scales(folder)                                    # finite, not negative
model = reload(folder, device)                          # loads and generates, finite logits
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from tasks.compress.layout import ModelLayout
from tasks.compress.plan import mask_structure, pruned_linears
from tasks.compress.recipe import Modifier
from tasks.model_folder import check_model_folder

DENSE = "dense"
SIZE_TOLERANCE_FRACTION = 0.02
NUM_GENERATED_TOKENS = 8
NUM_PROMPT_TOKENS = 8
SCALE_SUFFIXES = ("_scale", "_global_scale")


@dataclass(frozen=True)
class Saved:
    """A saved model as its files describe it."""

    format: str
    size_bytes: int
    quantized_modules: frozenset[str]


def read_saved(folder: Path) -> Saved:
    """From config.json and the headers; ValueError where the folder cannot be a model."""
    tensors = check_model_folder(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantization = config.get("quantization_config") or {}
    scales = (name for name in tensors if name.endswith(".weight_scale"))
    return Saved(
        format=str(quantization.get("format", DENSE)),
        size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
        quantized_modules=frozenset(name.removesuffix(".weight_scale") for name in scales),
    )


def check_modules(saved: Saved, planned: frozenset[str]) -> None:
    """RuntimeError unless exactly the planned modules are quantized on disk."""
    missing, extra = planned - saved.quantized_modules, saved.quantized_modules - planned
    for names, what in ((missing, "was to be quantized and is not"), (extra, "is quantized")):
        if names:
            raise RuntimeError(f"{len(names)} modules, the first {min(names)}: {what}")
    if planned and saved.format == DENSE:
        raise RuntimeError("config.json of the compressed model has no quantization_config")


def check_size(size_bytes: int, expected_bytes: int) -> None:
    """RuntimeError where the size is not what bits, scales and zero points add up to."""
    if abs(size_bytes - expected_bytes) > SIZE_TOLERANCE_FRACTION * expected_bytes:
        raise RuntimeError(
            f"the compressed model has {size_bytes} bytes of tensors, its recipe adds up to "
            f"{expected_bytes}: more than {SIZE_TOLERANCE_FRACTION:.0%} apart"
        )


def check_scales(folder: Path) -> None:
    """RuntimeError where a scale is not finite, or is negative."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 — not a dict
                if not name.endswith(SCALE_SUFFIXES):
                    continue
                scale = file.get_tensor(name)
                if scale.dtype is torch.uint8:  # an exponent: every value is a scale
                    continue
                if not bool((torch.isfinite(scale.float()) & (scale.float() >= 0)).all()):
                    raise RuntimeError(f"{name} in {path.name} is not finite and positive")


def reload(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load the saved model and generate some tokens; RuntimeError where a logit is not finite."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    model.to(device).eval()
    prompt = torch.arange(NUM_PROMPT_TOKENS, device=device)[None, :]
    generated = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NUM_GENERATED_TOKENS,
        min_new_tokens=NUM_GENERATED_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    if not all(bool(torch.isfinite(logits).all()) for logits in generated.logits):
        raise RuntimeError("the compressed model generates from logits that are not finite")
    return model


def check_zeros(model: PreTrainedModel, modifier: Modifier, layout: ModelLayout) -> float:
    """Fraction of zeros among pruned weights; RuntimeError where an N:M block has too few."""
    structure = mask_structure(modifier)
    weights = dict(model.named_parameters())
    num_zeros = num_weights = 0
    for linear in pruned_linears(modifier, layout):
        is_zero = weights[f"{linear.name}.weight"] == 0
        num_zeros += int(is_zero.sum())
        num_weights += is_zero.numel()
        if structure is not None:
            zeros, block = structure
            per_block = is_zero.reshape(-1, block).sum(-1)
            if bool((per_block < zeros).any()):
                raise RuntimeError(f"{linear.name} has blocks of {block} with under {zeros} zeros")
    return num_zeros / num_weights
