"""What train is asked for and what it answers: a causal language model, trained further.

Everything that changes the numbers is here, the kind of device included; speed is not part of the
answer but of the run's metrics.

    TrainSpec(
        model=prepared.model,
        train_tokens=prepared.train_tokens,
        validation_tokens=prepared.validation_tokens,
        num_steps=600,
        batch_size=16,
        learning_rate=3e-3,
    )
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from tasks.artifacts import ArtifactKind, ArtifactRef, Input
from tasks.spec import DeviceKind, Result, Spec, local_device_kind


class Precision(StrEnum):
    """The number format of the forward and backward pass; weights and optimizer are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class SaveDtype(StrEnum):
    """The number format that the trained weights are saved in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def default_precision(data: dict[str, Any]) -> Precision:
    """bfloat16 on a GPU; float32 on a CPU, where bfloat16 is slow on many machines."""
    return Precision.BFLOAT16 if data.get("device_kind") is DeviceKind.CUDA else Precision.FLOAT32


class TrainSpec(Spec):
    """A model, its data, and the recipe of its training on one device."""

    model: Annotated[Input, ArtifactKind.MODEL] = Field(description="Model folder to start from.")
    train_tokens: Annotated[Input, ArtifactKind.TOKENS] = Field(
        description="Packed training sequences."
    )
    validation_tokens: Annotated[Input, ArtifactKind.TOKENS] | None = Field(
        default=None, description="Packed validation sequences; None measures no validation loss."
    )
    num_steps: int = Field(gt=0, le=1_000_000_000, description="Optimizer steps.")
    batch_size: int = Field(
        gt=0, le=1_000_000, description="Sequences in one forward pass (micro batch)."
    )
    gradient_accumulation_steps: int = Field(
        default=1, gt=0, description="Forward passes per optimizer step."
    )
    learning_rate: float = Field(gt=0, le=100, description="Highest learning rate, after warm-up.")
    min_learning_rate_fraction: float = Field(
        default=0.1, ge=0, le=1, description="Learning rate at the end, as a share of the highest."
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Steps over which the learning rate rises linearly."
    )
    weight_decay: float = Field(
        default=0.1, ge=0, description="AdamW's decay of matrices; norms, biases, embeddings: none."
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the mean.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the square.")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's term against division by zero.")
    max_gradient_norm: float = Field(
        default=1.0, gt=0, description="Gradients are scaled down to this global norm."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the order of sequences and of dropout.")
    device_kind: DeviceKind = Field(
        default_factory=local_device_kind, description="Kind of device to compute on."
    )
    precision: Precision = Field(
        default_factory=default_precision,
        description="Number format of the passes; default bfloat16 on cuda, float32 on cpu.",
    )
    save_dtype: SaveDtype = Field(
        default=SaveDtype.BFLOAT16, description="Number format of the saved weights."
    )
    evaluate_every_steps: int = Field(
        default=100, gt=0, description="Validation also before the first and after the last step."
    )
    num_validation_batches: int = Field(
        default=8, gt=0, description="Batches of validation_tokens, always the same first ones."
    )
    log_every_steps: int = Field(default=10, gt=0, description="Steps per line of metrics.")
    checkpoint_every_steps: int = Field(
        default=100, gt=0, description="A killed run goes on from the last of these."
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute activations twice instead of keeping them."
    )
    compile: bool = Field(default=False, description="Compile the model with torch.compile.")
    deterministic: bool = Field(
        default=True, description="Use only operations that give the same bits each time."
    )

    @model_validator(mode="after")
    def _warmup_ends(self) -> TrainSpec:
        if self.warmup_steps >= self.num_steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} must be less than num_steps {self.num_steps}"
            )
        return self

    @property
    def num_sequences_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps


class TrainResult(Result):
    """The trained model and how its loss fell. Losses are mean nats per predicted token."""

    model: Annotated[ArtifactRef, ArtifactKind.MODEL] = Field(
        description="Model folder with tokenizer."
    )
    curve: Annotated[ArtifactRef, ArtifactKind.METRICS] = Field(
        description="JSON lines of losses, learning rate, gradient norm."
    )
    initial_train_loss: float = Field(description="Loss of the first step, before it is applied.")
    final_train_loss: float = Field(description="Mean over the last logging interval.")
    initial_validation_loss: float | None = Field(default=None, description="Before training.")
    final_validation_loss: float | None = Field(default=None, description="After training.")
    num_steps: int = Field(gt=0, description="Optimizer steps done.")
    num_tokens: int = Field(gt=0, description="Tokens read in training, repeats counted.")
    num_epochs: float = Field(gt=0, description="Passes over the training sequences.")
    num_parameters: int = Field(gt=0, description="Parameters of the model.")
    size_bytes: int = Field(gt=0, description="Size of the saved weights.")
