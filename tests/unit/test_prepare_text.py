"""Text to documents, documents to sequences and questions: nothing lost without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifacts import ArtifactKind, describe
from tasks.prepare.documents import Corpus, Document, cut_text, find_files, read_corpus
from tasks.prepare.heldout import choice_items, choose_documents
from tasks.prepare.packing import calibration_sequences, pack
from tasks.prepare.splits import Split, document_id
from tasks.prepare.text_spec import (
    Calibration,
    Heldout,
    SplitRule,
    TextFormat,
    TextSource,
    UndecodableBytes,
)

NO_SPLIT = SplitRule(validation_fraction=0, test_fraction=0)


def rule(folder: Path, **fields: object) -> TextSource:
    source = describe(folder, ArtifactKind.TEXT, "text")
    return TextSource(**{"source": source, "min_characters": 1, **fields})  # type: ignore[arg-type]


def read(folder: Path, split: SplitRule = NO_SPLIT, **fields: object) -> Corpus:
    source = rule(folder, **fields)
    return read_corpus(find_files(folder, folder.name, source.glob), source, split)


def test_a_repeated_document_is_kept_once_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One speech.\n\nAnother.")
    (tmp_path / "b.txt").write_text("Another.\r\n\r\nA third.")
    corpus = read(tmp_path, target_document_characters=None)
    kept = corpus.documents[Split.TRAIN]
    assert [document.text for document in kept] == ["One speech.", "Another.", "A third."]
    assert [document.source for document in kept] == ["a.txt", "a.txt", "b.txt"]
    assert corpus.num_duplicates == 1


def test_a_byte_that_is_not_text_stops_the_step_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Voil\u00e0".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt: byte 4 \(e0\) is not utf-8"):
        read(tmp_path)
    assert read(tmp_path, encoding="latin-1").documents[Split.TRAIN][0].text == "Voil\u00e0"


def test_undecodable_bytes_are_counted_when_they_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9 and caf\xe9")
    (tmp_path / "good.txt").write_text("tea")
    replaced = read(tmp_path, undecodable_bytes=UndecodableBytes.REPLACE)
    assert replaced.num_replaced_characters == 2
    skipped = read(tmp_path, undecodable_bytes=UndecodableBytes.SKIP_FILE)
    assert skipped.skipped_files == ["bad.txt"]
    assert [document.text for document in skipped.documents[Split.TRAIN]] == ["tea"]


def test_what_stands_around_the_marked_text_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("licence\n*** START ***\nthe book\n*** END ***\nlicence")
    corpus = read(tmp_path, begin_after=r"\*\*\* START \*\*\*", end_before=r"\*\*\* END")
    assert [document.text for document in corpus.documents[Split.TRAIN]] == ["the book"]


def test_a_json_line_without_text_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "fine"}\n\n{"txt": "oops"}\n')
    with pytest.raises(ValueError, match=r"data\.jsonl:3: no text under 'text'.*it has txt"):
        read(tmp_path, format=TextFormat.JSONL)
    (tmp_path / "data.jsonl").write_text('{"body": "fine"}\n{"body": ')
    with pytest.raises(ValueError, match=r"data\.jsonl:2: not a JSON object"):
        read(tmp_path, format=TextFormat.JSONL, text_field="body")


def test_a_corpus_of_nothing_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(ValueError, match="1 documents were shorter than 100 characters"):
        read(tmp_path, min_characters=100)
    with pytest.raises(ValueError, match=r"matches '\*\.md'"):
        read(tmp_path, glob="*.md")


def test_a_held_out_document_that_repeats_training_text_is_left_out(tmp_path: Path) -> None:
    shared = " ".join(f"word{i}" for i in range(20))
    lines = [json.dumps({"text": f"{i} {shared}"}) for i in range(40)]
    lines += [json.dumps({"text": f"{i} stands alone"}) for i in range(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    split = SplitRule(validation_fraction=0.2, test_fraction=0.2)
    corpus = read(tmp_path, split, format=TextFormat.JSONL)
    held_out = corpus.documents[Split.TEST] + corpus.documents[Split.VALIDATION]
    assert held_out
    assert not any(shared in document.text for document in held_out)
    assert corpus.num_overlapping > 0


@given(st.lists(st.text(alphabet="abc ", min_size=1).filter(str.strip), max_size=20))
def test_joined_paragraphs_lose_no_paragraph(paragraphs: list[str]) -> None:
    source = TextSource(
        source=describe(Path(__file__), ArtifactKind.TEXT, "unused"), target_document_characters=30
    )
    documents = list(cut_text("\n\n".join(paragraphs), source))
    assert "\n\n".join(documents).split() == " ".join(paragraphs).split()
    assert all(len(d) <= 30 or "\n\n" not in d for d in documents)


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=9), st.integers(2, 7))
def test_packing_keeps_every_token_in_order_but_an_unfilled_end(
    documents: list[list[int]], length: int
) -> None:
    packed = pack(documents, eos=0, sequence_length=length)
    stream = [0] + [token for document in documents for token in [*document, 0]]
    assert packed.dtype.name == "int32"
    assert packed.flatten().tolist() == stream[: packed.size]
    assert len(stream) - packed.size < length


def test_calibration_takes_what_is_asked_for_or_says_how_much_there_is() -> None:
    documents = [[i] * 10 for i in range(1, 31)]
    ask = Calibration(num_samples=5, sequence_length=20, seed=1)
    assert calibration_sequences(documents, 0, ask).shape == (5, 20)
    other = ask.model_copy(update={"seed": 2})
    first, second = (calibration_sequences(documents, 0, each) for each in (ask, other))
    assert first.tolist() != second.tolist()
    with pytest.raises(ValueError, match=r"asks for 99 sequences of 20 tokens; .* only 16"):
        calibration_sequences(documents, 0, ask.model_copy(update={"num_samples": 99}))


def play(num_documents: int) -> list[Document]:
    documents = []
    for number in range(num_documents):
        text = "\n".join(
            " ".join(f"d{number}l{line}w{word}" for word in range(8)) for line in range(12)
        )
        documents.append(Document(document_id(text), text, f"play{number % 3}.txt"))
    return documents


def test_every_question_has_one_continuation_that_follows_and_others_that_do_not() -> None:
    documents = play(8)
    by_id = {document.id: document for document in documents}
    items = choice_items(documents, Heldout(num_choice_items=60, num_choices=4, seed=3))
    assert len({item["id"] for item in items}) == 60
    for item in items:
        document = by_id[item["id"].split(":")[0]]
        right = item["choices"].pop(item["gold"])
        assert f"{item['context']} {right}" in document.text
        assert len(item["choices"]) == 3
        assert not any(choice in document.text for choice in item["choices"])
        assert all(len(choice.split()) == len(right.split()) for choice in item["choices"])
        assert item["source"] == document.source
    gold = [item["gold"] for item in items]
    assert {0, 1, 2, 3} == set(gold)


def test_more_questions_than_the_text_holds_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(ValueError, match=r"asks for 9999 questions .* give at most \d+ from 8"):
        choice_items(play(8), Heldout(num_choice_items=9999))
    with pytest.raises(ValueError, match="asks for 50 documents; the test split holds 8"):
        choose_documents(play(8), 50, seed=0)
