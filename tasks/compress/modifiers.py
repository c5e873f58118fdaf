"""What llmcompressor's modifiers are called and which fields they have, known without importing it.

Importing llmcompressor takes five seconds, validating a file should take none; so this table stands
here, and a test compares it with the installed llmcompressor, field by field.

    MODIFIERS["GPTQModifier"].fields
    UNSUPPORTED["AutoRoundModifier"]        # why not
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a modifier does to a model."""

    TRANSFORM = "transform"  # makes the weights easier to compress
    QUANTIZE = "quantize"
    PRUNE = "prune"


@dataclass(frozen=True)
class ModifierKind:
    """One of llmcompressor's modifiers."""

    module: str
    role: Role
    fields: frozenset[str]
    needs_data: bool  # always; a quantizing one without may still, see Modifier.needs_data


def _fields(names: str) -> frozenset[str]:
    return frozenset(names.split())


_QUANTIZE = _fields(
    "config_groups targets ignore scheme kv_cache_scheme weight_observer input_observer "
    "output_observer observer bypass_divisibility_checks"
)
_PRUNE = _fields(
    "sparsity sparsity_profile mask_structure owl_m owl_lmbda sequential_update targets ignore"
)
_SMOOTH = _fields("smoothing_strength mappings ignore num_calibration_steps algorithm")

MODIFIERS = {
    "AWQModifier": ModifierKind(
        "llmcompressor.modifiers.transform.awq",
        Role.TRANSFORM,
        _fields("mappings duo_scaling n_grid"),
        needs_data=True,
    ),
    "GPTQModifier": ModifierKind(
        "llmcompressor.modifiers.gptq",
        Role.QUANTIZE,
        _QUANTIZE | _fields("block_size dampening_frac actorder batched_quantization"),
        needs_data=True,
    ),
    "LogarithmicEqualizationModifier": ModifierKind(
        "llmcompressor.modifiers.logarithmic_equalization",
        Role.TRANSFORM,
        _SMOOTH,
        needs_data=True,
    ),
    "QuIPModifier": ModifierKind(
        "llmcompressor.modifiers.transform.quip",
        Role.TRANSFORM,
        _fields("rotations transform_type targets randomize learnable transform_block_size ignore"),
        needs_data=False,
    ),
    "QuantizationModifier": ModifierKind(
        "llmcompressor.modifiers.quantization",
        Role.QUANTIZE,
        _QUANTIZE,
        needs_data=False,
    ),
    "SmoothQuantModifier": ModifierKind(
        "llmcompressor.modifiers.transform.smoothquant",
        Role.TRANSFORM,
        _SMOOTH,
        needs_data=True,
    ),
    "SparseGPTModifier": ModifierKind(
        "llmcompressor.modifiers.pruning.sparsegpt",
        Role.PRUNE,
        _PRUNE | _fields("block_size dampening_frac preserve_sparsity_mask offload_hessians"),
        needs_data=True,
    ),
    "SpinQuantModifier": ModifierKind(
        "llmcompressor.modifiers.transform.spinquant",
        Role.TRANSFORM,
        _fields(
            "rotations transform_type randomize learnable transform_block_size mappings "
            "norm_mappings"
        ),
        needs_data=False,
    ),
    "WandaPruningModifier": ModifierKind(
        "llmcompressor.modifiers.pruning.wanda",
        Role.PRUNE,
        _PRUNE,
        needs_data=True,
    ),
}

UNSUPPORTED = {
    "AutoRoundModifier": "it needs the package auto-round, which the core environment lacks",
    "ConstantPruningModifier": "it acts during training, and this step does not train",
    "MagnitudePruningModifier": "it acts during training; use WandaPruningModifier",
    "REAPPruningModifier": "it removes experts, and mixtures of experts are not supported yet",
}

# Machinery of every modifier, and fields that only Python objects can fill: never in a recipe.
INTERNAL_FIELDS = _fields(
    "requires_calibration_data index group start end update precision transform_config "
    "calibration_function offload_device"
)

OBSERVERS = (
    "fouroversix",
    "imatrix_mse",
    "memoryless_minmax",
    "memoryless_mse",
    "minmax",
    "mse",
    "nvfp4_expanded_imatrix",
    "nvfp4_expanded_mse",
    "static_minmax",
)
OBSERVERS_OF_DATA = ("imatrix_mse", "nvfp4_expanded_imatrix")

_QKV = ["re:.*q_proj", "re:.*k_proj", "re:.*v_proj"]
SMOOTHQUANT_MAPPINGS: dict[str, list[list[list[str] | str]]] = {
    "llama": [
        [_QKV, "re:.*input_layernorm"],
        [["re:.*gate_proj", "re:.*up_proj"], "re:.*post_attention_layernorm"],
    ],
    "phi3": [
        [["re:.*qkv_proj"], "re:.*input_layernorm"],
        [["re:.*gate_up_proj"], "re:.*post_attention_layernorm"],
    ],
    "apertus": [
        [_QKV, "re:.*attention_layernorm"],
        [["re:.*up_proj"], "re:.*feedforward_layernorm"],
    ],
}
