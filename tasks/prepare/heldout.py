"""Two lm-eval tasks out of documents that nobody trains on.

heldout_text: how many bits a model needs per byte of each document. heldout_choice: which of a few
equally long continuations is the one that follows a passage; the others follow something else in
another document. Every item carries its document's hash and file, for paired statistics.

    write_tasks(folder, test_documents, Heldout(num_documents=50, num_choice_items=200))
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.prepare.documents import Document
from tasks.prepare.text_spec import Heldout

CONTEXT_CHARACTERS = 400  # of the passage before the choice, at most
CONTINUATION_WORDS = 12  # of every choice
MIN_CONTEXT_WORDS = 20

TEXT_TASK = """\
# How many bits the model needs for each byte of text that nobody trained on.
task: heldout_text
dataset_path: json
dataset_kwargs: {data_files: {test: heldout_text.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity}
  - {metric: byte_perplexity}
  - {metric: bits_per_byte}
metadata: {version: 1.0}
"""

CHOICE_TASK = """\
# Which continuation is the one that follows the passage, in text that nobody trained on.
task: heldout_choice
dataset_path: json
dataset_kwargs: {data_files: {test: heldout_choice.jsonl}}
test_split: test
output_type: multiple_choice
num_fewshot: 0
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


def choose_documents(documents: Sequence[Document], count: int, seed: int) -> list[Document]:
    """The `count` documents whose seeded hash is lowest.

    Another document in the corpus displaces at most one of them.
    """

    def rank(document: Document) -> bytes:
        return hashlib.sha256(f"{seed}\0{document.id}".encode()).digest()

    if len(documents) < count:
        raise ValueError(
            f"heldout asks for {count} documents; the test split holds {len(documents)}: lower "
            "heldout.num_documents, raise split.test_fraction, or give more text"
        )
    return sorted(documents, key=rank)[:count]


def _cuts(text: str) -> list[int]:
    """Where single blanks are, with enough words on both sides: lm-eval joins by one blank."""
    words = list(re.finditer(r"\S+", text))
    return [
        before.end()
        for before, after in itertools.pairwise(
            words[MIN_CONTEXT_WORDS - 1 : -CONTINUATION_WORDS + 1]
        )
        if text[before.end() : after.start()] == " "
    ]


def _continuation(text: str, cut: int) -> str:
    """CONTINUATION_WORDS words after the cut, with the blanks and newlines between them."""
    words = re.match(rf"(?:\s*\S+){{{CONTINUATION_WORDS}}}", text[cut + 1 :])
    assert words is not None, "cuts have enough words behind them"
    return words.group()


def _context(text: str, cut: int) -> str:
    """Up to CONTEXT_CHARACTERS before the cut, beginning at a whole word."""
    if cut <= CONTEXT_CHARACTERS:
        return text[:cut]
    return text[cut - CONTEXT_CHARACTERS : cut].split(maxsplit=1)[1]


def choice_items(documents: Sequence[Document], rule: Heldout) -> list[dict[str, Any]]:
    """`num_choice_items` questions spread evenly over the documents; no passage twice."""
    rng = random.Random(rule.seed)  # noqa: S311 (a choice of items, not a secret)
    cuts = {document.id: _cuts(document.text) for document in documents}
    usable = sorted((d for d in documents if cuts[d.id]), key=lambda document: document.id)
    num_possible = sum(len(cuts[document.id]) for document in usable)
    if num_possible < rule.num_choice_items or len(usable) < rule.num_choices:
        raise ValueError(
            f"heldout asks for {rule.num_choice_items} questions of {rule.num_choices} choices; "
            f"the {len(documents)} test documents give at most {num_possible} from {len(usable)} "
            "documents: lower heldout.num_choice_items, or raise split.test_fraction"
        )
    for document in usable:
        rng.shuffle(cuts[document.id])
    items: list[dict[str, Any]] = []
    next_cut = 0
    while len(items) < rule.num_choice_items:
        for document in usable:
            if next_cut < len(cuts[document.id]) and len(items) < rule.num_choice_items:
                cut = cuts[document.id][next_cut]
                others = rng.sample([d for d in usable if d is not document], rule.num_choices - 1)
                choices = [_continuation(d.text, rng.choice(cuts[d.id])) for d in others]
                gold = rng.randrange(rule.num_choices)
                choices.insert(gold, _continuation(document.text, cut))
                items.append(
                    {
                        "id": f"{document.id}:{cut}",
                        "source": document.source,
                        "context": _context(document.text, cut),
                        "choices": choices,
                        "gold": gold,
                    }
                )
        next_cut += 1
    return items


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One JSON object per line, UTF-8."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def document_row(document: Document) -> dict[str, Any]:
    """A line of a TEXT artifact."""
    return {"id": document.id, "text": document.text, "source": document.source}


def write_tasks(folder: Path, documents: Sequence[Document], rule: Heldout) -> Path:
    """A TASKS artifact: YAML files and their data side by side, relative names only."""
    folder.mkdir(parents=True)
    chosen = choose_documents(documents, rule.num_documents, rule.seed)
    write_jsonl(folder / "heldout_text.jsonl", [document_row(document) for document in chosen])
    (folder / "heldout_text.yaml").write_text(TEXT_TASK, encoding="utf-8")
    if rule.num_choice_items:
        write_jsonl(folder / "heldout_choice.jsonl", choice_items(documents, rule))
        (folder / "heldout_choice.yaml").write_text(CHOICE_TASK, encoding="utf-8")
    return folder
