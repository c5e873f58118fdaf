"""Compress a model by a recipe: what goes in and what comes out.

    CompressSpec(model="models/smollm2", recipe="w4a16", group_size=64, calibration="calibration")

The recipe's content stands in the spec, so the identity covers it. What can be known from headers
(names, group sizes, lengths) is checked here where model and calibration lie on this machine, and
at the start of the body in any case.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from tasks.artifacts import TOKENS_FILE, ArtifactKind, ArtifactRef, Input, LocalPath
from tasks.compress.layout import ModelLayout, read_layout
from tasks.compress.overrides import OVERRIDES, apply_overrides
from tasks.compress.plan import problems_of
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.model_folder import safetensors_header
from tasks.spec import DeviceKind, Result, Spec, local_device_kind


class ActivationOrderChoice(StrEnum):
    """In which order GPTQ takes a weight's columns."""

    WEIGHT = "weight"  # largest activations first
    NONE = "none"  # as they stand


def _read_recipe(value: Any, info: ValidationInfo) -> Recipe | ArtifactRef:
    if isinstance(value, Recipe | ArtifactRef):
        return value
    if isinstance(value, dict) and "digest" in value:
        return ArtifactRef.model_validate(value)
    base_dir = Path((info.context or {}).get("base_dir", Path.cwd()))
    return Recipe.model_validate(parse_recipe(value, base_dir))


RecipeInput = Annotated[
    Recipe | ArtifactRef,
    BeforeValidator(
        _read_recipe, json_schema_input_type=str | Path | list[dict[str, Any]] | ArtifactRef
    ),
]


class CompressSpec(Spec):
    """Everything that may change a compressed model."""

    model: Annotated[Input, ArtifactKind.MODEL] = Field(
        description="Hugging Face model folder to compress."
    )
    recipe: RecipeInput = Field(
        description="A standard's name (see `labwright standards list`), YAML text, a YAML file, "
        "or a list of modifiers {Name: {fields}}."
    )
    calibration: Annotated[Input, ArtifactKind.TOKENS] | None = Field(
        default=None, description="Calibration tokens; most recipes need them."
    )
    num_samples: int | None = Field(
        default=None, ge=1, description="Calibration sequences to draw; by default all."
    )
    sequence_length: int | None = Field(
        default=None, ge=2, description="Tokens taken of each sequence; by default all."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Draws the calibration sequences.")
    device_kind: DeviceKind = Field(
        default_factory=local_device_kind, description="Kind of device it is computed on."
    )

    dampening_fraction: float | None = Field(
        default=None, gt=0, le=1, description="Override: share of the mean added to the Hessian."
    )
    group_size: int | None = Field(
        default=None, ge=1, description="Override: weights that share a scale."
    )
    num_bits: int | None = Field(default=None, ge=2, le=8, description="Override: bits a weight.")
    actorder: ActivationOrderChoice | None = Field(
        default=None, description="Override: order in which GPTQ takes columns."
    )
    observer: str | None = Field(
        default=None, description="Override: how weight ranges are found, e.g. mse or minmax."
    )
    smoothing_strength: float | None = Field(
        default=None, ge=0, le=1, description="Override: SmoothQuant's alpha."
    )
    ignore: tuple[str, ...] | None = Field(
        default=None, description="Override: modules left alone, as names or re:patterns."
    )
    symmetric: bool | None = Field(
        default=None, description="Override: weights without zero points."
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """The overrides that are set, by field."""
        values = {name: getattr(self, name) for name in OVERRIDES}
        return {name: value for name, value in values.items() if value is not None}

    def resolve_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the overrides applied; ValueError where data that it needs is missing."""
        resolved = apply_overrides(recipe, self.overrides)
        if resolved.needs_data and self.calibration is None:
            raise ValueError(
                f"{', '.join(resolved.needs_data)} needs calibration data: set 'calibration' to "
                "tokens, such as ${steps.prepare.calibration}"
            )
        return resolved

    def problems_of_lengths(
        self, layout: ModelLayout | None, tokens_shape: tuple[int, int] | None
    ) -> list[str]:
        """What is wrong with num_samples and sequence_length, for what is known."""
        problems = []
        if self.calibration is None:
            given = [n for n in ("num_samples", "sequence_length") if getattr(self, n) is not None]
            problems += [f"{name}: there is no calibration data to take it from" for name in given]
        num_sequences, available = tokens_shape or (None, None)
        if num_sequences is not None and (self.num_samples or 0) > num_sequences:
            problems.append(
                f"num_samples {self.num_samples}: the calibration data has {num_sequences}"
            )
        if available is not None and (self.sequence_length or 0) > available:
            problems.append(
                f"sequence_length {self.sequence_length}: sequences have {available} tokens"
            )
        length = self.sequence_length or available
        limit = layout.max_positions if layout else None
        if length is not None and limit is not None and length > limit:
            problems.append(
                f"sequence_length {length} is more than the {limit} positions of the model; "
                f"set sequence_length to at most {limit}"
            )
        return problems

    @model_validator(mode="after")
    def _check(self) -> CompressSpec:
        recipe = self.resolve_recipe(self.recipe) if isinstance(self.recipe, Recipe) else None
        layout = read_layout(self.model.path) if isinstance(self.model, LocalPath) else None
        tokens = self.calibration.path if isinstance(self.calibration, LocalPath) else None
        shape = tokens_shape(tokens) if tokens else None
        problems = self.problems_of_lengths(layout, shape)
        if recipe is not None and layout is not None:
            problems += problems_of(recipe, layout)
        if problems:
            raise ValueError("\n".join(problems))
        return self


def tokens_shape(folder: Path) -> tuple[int, int]:
    """Sequences and tokens of each in a TOKENS artifact; ValueError where it is none."""
    path = folder / TOKENS_FILE
    if not path.is_file():
        raise ValueError(f"calibration: {folder} holds no {TOKENS_FILE}")
    header = safetensors_header(path).get("input_ids")
    if header is None or len(header.shape) != 2:
        raise ValueError(f"calibration: {path} has no input_ids of two dimensions")
    return header.shape[0], header.shape[1]


class CompressResult(Result):
    """A compressed model that was checked: right size, finite scales, loads, generates."""

    model: Annotated[ArtifactRef, ArtifactKind.MODEL] = Field(
        description="Compressed Hugging Face model folder."
    )
    recipe: Annotated[ArtifactRef, ArtifactKind.RECIPE] = Field(
        description="The recipe as it was applied, YAML."
    )
    scheme: str = Field(description="In words, e.g. W4A16 int group 128 symmetric.")
    format: str = Field(description="Format on disk, e.g. pack-quantized; dense if not quantized.")
    size_bytes: int = Field(gt=0, description="Bytes of all tensors.")
    base_size_bytes: int = Field(gt=0, description="The same of the model that went in.")
    size_ratio: float = Field(gt=0, description="size_bytes / base_size_bytes.")
    expected_size_ratio: float = Field(
        gt=0, description="The ratio that bits, scales and zero points add up to."
    )
    num_linear_modules: int = Field(ge=0, description="Linear layers of the model.")
    num_quantized_modules: int = Field(ge=0, description="Those whose weights are quantized.")
    zero_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Zeros among pruned weights; absent if none are."
    )
    base_loss: float | None = Field(
        default=None, description="Nats per token of the model that went in, calibration sample."
    )
    loss: float | None = Field(
        default=None, description="Nats per token of the compressed model, the same sample."
    )
    agreement_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Positions at which both predict the same token."
    )
