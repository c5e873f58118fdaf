"""Quantization arguments as compressed-tensors defines them, typed, and its named schemes.

The same fields, defaults and rules (how a strategy is inferred, what may not go together) without
importing torch; a test compares each scheme with the installed compressed-tensors.

    scheme("W4A16", targets=["Linear"]).weights.group_size      # 128
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.compress.modifiers import OBSERVERS, OBSERVERS_OF_DATA
from tasks.errors import nearest
from tasks.spec import Frozen


class NumberType(StrEnum):
    """What a quantized value is."""

    INT = "int"
    FLOAT = "float"


class Strategy(StrEnum):
    """Which values share a scale."""

    TENSOR = "tensor"
    CHANNEL = "channel"
    GROUP = "group"
    BLOCK = "block"
    TOKEN = "token"  # noqa: S105 — a strategy of activations, no secret
    TENSOR_GROUP = "tensor_group"
    ATTN_HEAD = "attn_head"


GROUPED = (Strategy.GROUP, Strategy.TENSOR_GROUP)


class ActivationOrder(StrEnum):
    """Whether GPTQ takes columns by the size of their activations first."""

    WEIGHT = "weight"
    STATIC = "static"  # another name for weight


class QuantizationArguments(Frozen):
    """How one kind of tensor (weights, input or output activations) is quantized."""

    num_bits: int = Field(default=8, ge=2, le=8, description="Bits of one value.")
    type: NumberType = Field(default=NumberType.INT, description="int or float.")
    symmetric: bool = Field(default=True, description="Without zero points.")
    strategy: Strategy = Field(default=Strategy.TENSOR, description="Which values share a scale.")
    group_size: int | None = Field(default=None, ge=1, description="Values of one group.")
    block_structure: tuple[int, int] | None = Field(default=None, description="Rows, columns.")
    dynamic: bool | Literal["local"] = Field(
        default=False, description="Scaled as values come rather than from calibration."
    )
    actorder: ActivationOrder | None = Field(default=None, description="Order of GPTQ's columns.")
    observer: str | None = Field(default=None, description="How ranges are found.")
    observer_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its settings.")
    scale_dtype: str | None = Field(default=None, description="Type of stored scales.")
    zp_dtype: str | None = Field(default=None, description="Type of stored zero points.")

    @model_validator(mode="before")
    @classmethod
    def _infer_strategy(cls, value: Any) -> Any:
        """compressed-tensors's rule: a group size means groups, -1 means channels."""
        if not isinstance(value, dict):
            return value
        fields = dict(value)
        if fields.get("group_size") == -1:
            fields.pop("group_size")
            fields.setdefault("strategy", Strategy.CHANNEL)
        if fields.get("strategy") is None:
            is_grouped = fields.get("group_size") is not None
            fields["strategy"] = Strategy.GROUP if is_grouped else Strategy.TENSOR
        if fields.get("actorder") in (False, "group", "dynamic"):
            if fields["actorder"] is not False:
                raise ValueError("actorder 'group' was removed from llmcompressor; use 'weight'")
            fields["actorder"] = None
        return fields

    @field_validator("observer")
    @classmethod
    def _known_observer(cls, value: str | None) -> str | None:
        if value is not None and value not in OBSERVERS:
            hint = nearest(value, OBSERVERS) or f"; there are {', '.join(OBSERVERS)}"
            raise ValueError(f"there is no observer '{value}'{hint}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> QuantizationArguments:
        if self.strategy in GROUPED and self.group_size is None:
            raise ValueError(f"strategy '{self.strategy}' needs a group_size")
        if self.strategy not in GROUPED and self.group_size is not None:
            raise ValueError(f"group_size needs strategy 'group', not '{self.strategy}'")
        if (self.strategy is Strategy.BLOCK) != (self.block_structure is not None):
            raise ValueError("strategy 'block' and block_structure go together")
        if self.strategy is Strategy.TOKEN and not self.dynamic:
            raise ValueError("strategy 'token' needs 'dynamic: true'")
        if self.dynamic and self.strategy in (Strategy.CHANNEL, Strategy.BLOCK):
            raise ValueError(f"strategy '{self.strategy}' cannot be dynamic")
        if self.type is NumberType.FLOAT and self.num_bits not in (4, 8):
            raise ValueError(f"a float has 4 or 8 bits, not {self.num_bits}")
        if self.type is NumberType.FLOAT and not self.symmetric:
            raise ValueError("float types have no zero point; symmetric must be true")
        return self


class QuantizationGroup(Frozen):
    """Modules that are quantized in one way."""

    targets: tuple[str, ...] = Field(min_length=1, description="Module classes, names or re:….")
    weights: QuantizationArguments | None = Field(default=None, description="Of the weights.")
    input_activations: QuantizationArguments | None = Field(default=None, description="Of inputs.")
    output_activations: QuantizationArguments | None = Field(
        default=None, description="Of outputs."
    )
    format: str | None = Field(default=None, description="Format on disk; by default inferred.")

    @field_validator("targets", mode="before")
    @classmethod
    def _one_target(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> QuantizationGroup:
        for activations in (self.input_activations, self.output_activations):
            if activations is not None and activations.actorder is not None:
                raise ValueError("actorder is for weights, not for activations")
        for pattern in self.targets:
            if pattern.startswith("re:"):
                try:
                    re.compile(pattern.removeprefix("re:"))
                except re.error as error:
                    raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
        return self

    @property
    def needs_data(self) -> bool:
        """Whether scales come from calibration data."""
        activations = (self.input_activations, self.output_activations)
        observes_data = self.weights is not None and self.weights.observer in OBSERVERS_OF_DATA
        return observes_data or any(
            arguments is not None and arguments.dynamic is not True for arguments in activations
        )

    def summary(self) -> str:
        """`W4A16 int group 128 symmetric`."""
        if self.weights is None:
            return "unquantized"
        weights, activations = self.weights, self.input_activations
        activation_bits = activations.num_bits if activations else 16
        words = [f"W{weights.num_bits}A{activation_bits}", weights.type, weights.strategy]
        if weights.group_size is not None:
            words.append(str(weights.group_size))
        words.append("symmetric" if weights.symmetric else "asymmetric")
        return " ".join(words)


def _integers(bits: int, activation_bits: int = 16, **weights: Any) -> dict[str, Any]:
    grouped = {"strategy": "group", "group_size": 128}
    scheme: dict[str, Any] = {"weights": {"num_bits": bits, **(weights or grouped)}}
    if activation_bits < 16:
        scheme["input_activations"] = {
            "num_bits": activation_bits,
            "strategy": "token",
            "dynamic": True,
        }
    return scheme


_FP8 = {"num_bits": 8, "type": "float"}
_FP8_TOKENS = {**_FP8, "strategy": "token", "dynamic": True}
_NVFP4 = {
    "num_bits": 4,
    "type": "float",
    "strategy": "tensor_group",
    "group_size": 16,
    "scale_dtype": "torch.float8_e4m3fn",
    "zp_dtype": "torch.float8_e4m3fn",
}
_MXFP = {
    "type": "float",
    "strategy": "group",
    "group_size": 32,
    "scale_dtype": "torch.uint8",
    "zp_dtype": "torch.uint8",
}

SCHEMES: dict[str, dict[str, Any]] = {
    "UNQUANTIZED": {},
    "W4A16_ASYM": _integers(4, strategy="group", group_size=128, symmetric=False),
    "W8A8": _integers(8, 8, strategy="channel"),
    "INT8": _integers(8, 8, strategy="channel"),
    "W4AFP8": {**_integers(4), "input_activations": _FP8_TOKENS},
    "FP8": {
        "weights": {**_FP8, "strategy": "tensor"},
        "input_activations": {**_FP8, "strategy": "tensor", "observer": "static_minmax"},
    },
    "FP8_DYNAMIC": {
        "weights": {**_FP8, "strategy": "channel"},
        "input_activations": _FP8_TOKENS,
    },
    "FP8_BLOCK": {
        "weights": {**_FP8, "strategy": "block", "block_structure": (128, 128)},
        "input_activations": {**_FP8, "strategy": "group", "group_size": 128, "dynamic": True},
    },
    "NVFP4A16": {"weights": _NVFP4},
    "NVFP4": {
        "weights": _NVFP4,
        "input_activations": {**_NVFP4, "dynamic": "local", "observer": "static_minmax"},
    },
    **{
        f"MXFP{bits}{suffix}": {
            "weights": {**_MXFP, "num_bits": bits},
            **(
                {}
                if suffix
                else {"input_activations": {**_MXFP, "num_bits": bits, "dynamic": True}}
            ),
        }
        for bits in (4, 8)
        for suffix in ("", "A16")
    },
    **{
        f"W{bits}A{activation_bits}": _integers(bits, activation_bits)
        for bits, activation_bits in (
            *((bits, 4) for bits in (2, 3, 4)),
            *((bits, 8) for bits in (2, 3, 4, 5, 6, 7)),
            *((bits, 16) for bits in (2, 3, 4, 5, 6, 7, 8)),
        )
    },
}


def scheme(name: str, targets: list[str]) -> QuantizationGroup:
    """The group that a named scheme stands for; ValueError gives the nearest name."""
    arguments = SCHEMES.get(name.upper())
    if arguments is None:
        hint = nearest(name.upper(), SCHEMES) or f"; there are {', '.join(SCHEMES)}"
        raise ValueError(f"there is no scheme '{name}'{hint}")
    return QuantizationGroup.model_validate({"targets": targets, **arguments})
