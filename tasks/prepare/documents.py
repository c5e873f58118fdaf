"""From files to documents: decode, cut, normalise, drop doubles, share out.

No bytes are swallowed: what cannot be decoded stops the step with file and offset, or is counted.

    corpus = read_corpus({"hamlet.txt": path}, TextSource(...), SplitRule())
    corpus.documents[Split.TEST][0].text
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tasks.prepare.splits import Split, document_id, normalise, overlapping, split_of
from tasks.prepare.text_spec import SplitRule, TextFormat, TextSource, UndecodableBytes


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str
    content: str


class Piece(NamedTuple):
    """What is cut out of a file: a text, and its messages where it is a conversation."""

    text: str
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Document:
    """A normalised text, named by its hash."""

    id: str  # sha256 of `text`
    text: str
    source: str  # relative path of the file that it was first found in
    turns: tuple[Turn, ...] = ()  # its messages, of which `text` is the contents


@dataclass
class Corpus:
    """Documents by split, in the order they were read, and what was left out."""

    documents: dict[Split, list[Document]] = field(
        default_factory=lambda: {split: [] for split in Split}
    )
    num_files: int = 0
    num_duplicates: int = 0
    num_too_short: int = 0
    num_overlapping: int = 0
    num_replaced_characters: int = 0
    skipped_files: list[str] = field(default_factory=list)


def find_files(source: Path, name: str, glob: str) -> dict[str, Path]:
    """The files of a source by relative path, sorted; a single file has the given name.

    ValueError where there are none.
    """
    if source.is_file():
        return {name: source}
    files = {
        path.relative_to(source).as_posix(): path for path in source.glob(glob) if path.is_file()
    }
    if not files:
        raise ValueError(f"no file in the text source '{name}' matches '{glob}'")
    return dict(sorted(files.items()))


def decode(content: bytes, name: str, rule: TextSource) -> tuple[str, int] | None:
    """Text and number of replaced characters; None means that the file is to be left out."""
    try:
        return content.decode(rule.encoding), 0
    except UnicodeDecodeError as error:
        if rule.undecodable_bytes is UndecodableBytes.SKIP_FILE:
            return None
        if rule.undecodable_bytes is UndecodableBytes.FAIL:
            bad = content[error.start : error.start + 4].hex(" ")
            raise ValueError(
                f"{name}: byte {error.start} ({bad}) is not {rule.encoding}; state the file's "
                "text.encoding, or choose text.undecodable_bytes: skip_file or replace"
            ) from error
    text = content.decode(rule.encoding, errors="replace")
    return text, text.count("\ufffd")


def between(text: str, rule: TextSource) -> str:
    """The text without what stands outside of `begin_after` and `end_before`."""
    if rule.begin_after is not None and (match := re.search(rule.begin_after, text)):
        text = text[match.end() :]
    if rule.end_before is not None and (match := re.search(rule.end_before, text)):
        text = text[: match.start()]
    return text


def cut_text(text: str, rule: TextSource) -> Iterator[str]:
    """Paragraphs, joined with a blank line until the next would pass the target length."""
    paragraphs = [part for part in re.split(rule.document_separator, text) if part and part.strip()]
    if rule.target_document_characters is None:
        yield from paragraphs
        return
    pending: list[str] = []
    num_characters = 0
    for paragraph in paragraphs:
        if pending and num_characters + 2 + len(paragraph) > rule.target_document_characters:
            yield "\n\n".join(pending)
            pending, num_characters = [], 0
        num_characters += len(paragraph) + (2 if pending else 0)
        pending.append(paragraph)
    if pending:
        yield "\n\n".join(pending)


def cut_jsonl(text: str, name: str, rule: TextSource) -> Iterator[Piece]:
    """The text or the messages of every line; ValueError names the line that has none."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{name}:{number}: not a JSON object: {error}") from error
        found = value.get(rule.text_field) if isinstance(value, dict) else None
        turns = _turns(found, rule)
        if turns:
            yield Piece("\n\n".join(turn.content for turn in turns), turns)
        elif isinstance(found, str):
            yield Piece(between(found, rule))
        else:
            keys = ", ".join(sorted(value)) if isinstance(value, dict) else "no keys"
            raise ValueError(
                f"{name}:{number}: no text under '{rule.text_field}' (text.text_field); it has "
                f"{keys}"
            )


def _turns(value: Any, rule: TextSource) -> tuple[Turn, ...]:
    """Messages in the shape that chat templates take; none where it is anything else."""
    is_conversation = isinstance(value, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    )
    if not is_conversation:
        return ()
    return tuple(
        Turn(message["role"], normalise(between(message["content"], rule))) for message in value
    )


def read_corpus(files: Mapping[str, Path], rule: TextSource, split: SplitRule) -> Corpus:
    """Read, cut, normalise, deduplicate and share out; ValueError where nothing is left."""
    corpus = Corpus()
    seen: set[str] = set()
    for name, path in files.items():
        decoded = decode(path.read_bytes(), name, rule)
        corpus.num_files += 1
        if decoded is None:
            corpus.skipped_files.append(name)
            continue
        corpus.num_replaced_characters += decoded[1]
        if rule.format is TextFormat.JSONL:
            pieces = cut_jsonl(decoded[0], name, rule)
        else:
            texts = cut_text(between(normalise(decoded[0]), rule), rule)
            pieces = (Piece(text) for text in texts)
        for text, turns in pieces:
            piece = normalise(text)
            if len(piece) < rule.min_characters:
                corpus.num_too_short += 1
                continue
            identifier = document_id(piece)
            if identifier in seen:
                corpus.num_duplicates += 1
                continue
            seen.add(identifier)
            place = split_of(
                identifier,
                validation_fraction=split.validation_fraction,
                test_fraction=split.test_fraction,
                salt=split.salt,
            )
            corpus.documents[place].append(Document(identifier, piece, name, turns))
    if not corpus.documents[Split.TRAIN]:
        raise ValueError(
            f"no training document is left of {corpus.num_files} files ({corpus.num_too_short} "
            f"documents were shorter than {rule.min_characters} characters)"
        )
    if split.overlap_num_words is not None:
        drop_overlapping(corpus, split.overlap_num_words)
    return corpus


def drop_overlapping(corpus: Corpus, num_words: int) -> None:
    """Leave out held-out documents that repeat a run of words of a training document."""
    training = [document.text for document in corpus.documents[Split.TRAIN]]
    for split in (Split.VALIDATION, Split.TEST):
        documents = corpus.documents[split]
        found = overlapping([document.text for document in documents], training, num_words)
        corpus.num_overlapping += len(found)
        corpus.documents[split] = [d for i, d in enumerate(documents) if i not in found]
