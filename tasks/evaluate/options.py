"""What an evaluation can be told about how it computes: backend, number format, seeds, generation.

Seeds(python=1, numpy=1, torch=1, fewshot=7)
Generation(max_new_tokens=256, temperature=0)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from tasks.spec import Frozen


class Backend(StrEnum):
    """What computes the likelihoods and the text."""

    HF = "hf"  # transformers, in this process
    VLLM = "vllm"  # a vLLM server, started for the step and spoken to over HTTP


class Dtype(StrEnum):
    """Number format; `auto` is the one that the model was saved in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Seeds(Frozen):
    """lm-eval's four seeds, one by one."""

    python: int = Field(ge=0, description="Seed of Python's random module.")
    numpy: int = Field(ge=0, description="Seed of NumPy.")
    torch: int = Field(ge=0, description="Seed of torch; with vLLM, of the requests.")
    fewshot: int = Field(ge=0, description="Seed of the choice of few-shot examples.")


class Generation(Frozen):
    """Overrides of how text is generated; what is None stays as the task has it."""

    max_new_tokens: int | None = Field(default=None, ge=1, description="Longest answer in tokens.")
    temperature: float | None = Field(
        default=None, ge=0, description="0 takes the likeliest token; above 0 samples."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sample from the likeliest tokens of this mass."
    )
    stop: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Strings that end an answer."
    )

    @model_validator(mode="after")
    def _sampling_needs_temperature(self) -> Self:
        if self.top_p is not None and not self.temperature:
            raise ValueError("top_p has no effect without a temperature above 0")
        return self
