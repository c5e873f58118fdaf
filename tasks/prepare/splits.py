"""Which documents are for training, which for choosing, which for judging.

A document's split is a pure function of its normalised text and the salt. Adding, removing or
reordering other documents never moves it, identical text is always in the same split, and changing
one held-out fraction moves documents only between that split and training. Fractions are met in
expectation, by number of documents, not exactly.

    split_of(document_id("To be, or not to be"), validation_fraction=0.05, test_fraction=0.05)
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum


class Split(StrEnum):
    """What a document may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def normalise(text: str) -> str:
    """NFC, newlines as `\\n`, no byte order mark, no blank space around the whole."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    return unicodedata.normalize("NFC", text).strip()


def document_id(text: str) -> str:
    """sha256 of the normalised text, in hex."""
    return hashlib.sha256(normalise(text).encode("utf-8")).hexdigest()


def position(identifier: str, salt: str) -> float:
    """Where a document lies in [0, 1): uniform over documents, fixed for one document."""
    digest = hashlib.sha256(f"{salt}\0{identifier}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def split_of(
    identifier: str, *, validation_fraction: float, test_fraction: float, salt: str = ""
) -> Split:
    """The split of a document: test from the bottom of [0, 1), validation from the top."""
    if validation_fraction + test_fraction > 1:
        raise ValueError(
            f"validation_fraction {validation_fraction} and test_fraction {test_fraction} "
            "add up to more than 1"
        )
    place = position(identifier, salt)
    if place < test_fraction:
        return Split.TEST
    if place >= 1 - validation_fraction:
        return Split.VALIDATION
    return Split.TRAIN


def word_runs(text: str, num_words: int) -> set[str]:
    """Every run of `num_words` consecutive words, folded to lower case, blanks made equal.

    A shorter text has no run, and so overlaps with nothing.
    """
    words = text.lower().split()
    return {
        " ".join(words[start : start + num_words]) for start in range(len(words) - num_words + 1)
    }


def overlapping(held_out: Sequence[str], training: Iterable[str], num_words: int) -> set[int]:
    """Indices of held-out texts that share a run of `num_words` words with a training text.

    Runs of 13 words are what GPT-3 was decontaminated with (Brown et al. 2020, appendix C).
    """
    owners: dict[str, list[int]] = {}
    for index, text in enumerate(held_out):
        for run in word_runs(text, num_words):
            owners.setdefault(run, []).append(index)
    found: set[int] = set()
    for text in training:
        for run in word_runs(text, num_words) & owners.keys():
            found.update(owners[run])
    return found
