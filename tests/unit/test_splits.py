"""Splits: a document's place depends on its own text, and on nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.prepare.splits import (
    Split,
    document_id,
    normalise,
    overlapping,
    position,
    split_of,
)

texts = st.lists(st.text(min_size=1, max_size=40), max_size=30)
fractions = st.floats(min_value=0, max_value=0.5)


def place_all(corpus: list[str], salt: str = "") -> dict[str, Split]:
    return {
        document_id(text): split_of(
            document_id(text), validation_fraction=0.2, test_fraction=0.2, salt=salt
        )
        for text in corpus
    }


@given(texts, texts)
def test_adding_or_removing_documents_moves_no_other(kept: list[str], others: list[str]) -> None:
    alone, together = place_all(kept), place_all(kept + others)
    assert all(together[identifier] == split for identifier, split in alone.items())


@given(st.randoms(use_true_random=False), texts)
def test_the_order_of_documents_does_not_matter(rng: object, corpus: list[str]) -> None:
    shuffled = list(corpus)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place_all(shuffled) == place_all(corpus)


@given(st.text(max_size=60))
def test_text_that_looks_the_same_is_the_same_document(text: str) -> None:
    windows = unicodedata.normalize("NFD", f"\ufeff{text}\n ").replace("\n", "\r\n")
    assert document_id(windows) == document_id(text)
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(), fractions, fractions, fractions)
def test_another_validation_fraction_moves_nothing_into_or_out_of_test(
    text: str, test_fraction: float, before: float, after: float
) -> None:
    identifier = document_id(text)
    was = split_of(identifier, validation_fraction=before, test_fraction=test_fraction)
    now = split_of(identifier, validation_fraction=after, test_fraction=test_fraction)
    assert (was is Split.TEST) == (now is Split.TEST)


def test_fractions_are_met_within_four_standard_errors() -> None:
    count = 20_000
    places = [
        split_of(document_id(f"document {i}"), validation_fraction=0.1, test_fraction=0.05)
        for i in range(count)
    ]
    for split, share in ((Split.VALIDATION, 0.1), (Split.TEST, 0.05), (Split.TRAIN, 0.85)):
        error = (share * (1 - share) / count) ** 0.5
        assert abs(places.count(split) / count - share) < 4 * error


def test_another_salt_is_another_split() -> None:
    corpus = [f"document {i}" for i in range(200)]
    assert place_all(corpus, "a") != place_all(corpus, "b")
    assert 0 <= position(document_id("x"), "a") < 1


def test_a_place_never_changes_between_versions() -> None:
    """Stored data was split by this function: its values are part of the format."""
    assert document_id("To be, or not to be") == (
        "80ed7fc26bc0bbb12ef93ae6dbc4bdaae8262e83e65163626e57c24b8fc316a8"
    )
    assert position(document_id("To be, or not to be"), "") == 0.8795440247822803


def test_fractions_that_leave_nothing_are_refused_by_value() -> None:
    with pytest.raises(ValueError, match=r"0\.7 and test_fraction 0\.6"):
        split_of(document_id("x"), validation_fraction=0.7, test_fraction=0.6)


def test_a_held_out_text_that_repeats_a_run_of_training_words_is_found() -> None:
    speech = "tomorrow and tomorrow and tomorrow creeps in this petty pace"
    held_out = [f"Enter SEYTON. {speech.upper()} from day to day", "nothing in common here at all"]
    assert overlapping(held_out, ["before", f"so,\n {speech}\tafter"], num_words=8) == {0}
    assert overlapping(held_out, [f"so {speech} after"], num_words=11) == set()
