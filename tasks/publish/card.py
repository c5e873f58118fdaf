"""A model card: YAML front matter that Hugging Face reads, then what a reader wants to know.

    text = render_card(Card(title="w8a8", kind="compress", base_model="lab/base", ...))

Pure. What is not known is not claimed: a licence that nobody stated is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml
from pydantic import Field

from tasks.spec import Frozen

RELATIONS = {"compress": "quantized", "train": "finetune"}


class ScoreRow(Frozen):
    """One line of the evaluation table; empty is what was not measured."""

    metric: str = Field(description="task/metric.")
    score: str = Field(description="Value with its interval.")
    baseline: str = Field(default="", description="The base model's, on the same items.")
    recovery: str = Field(default="", description="Share kept with its interval, or why none.")
    num_items: int = Field(ge=1, description="Items.")


class ServingRow(Frozen):
    """One load of the benchmark table: medians over repeats."""

    load: str = Field(description="Label of the load.")
    tokens_per_s: str = Field(description="Output tokens a second.")
    ttft_ms: str = Field(default="", description="p50 / p99 of the time to first token.")
    itl_ms: str = Field(default="", description="p50 / p99 of the time between tokens.")
    num_repeats: int = Field(ge=1, description="Repeats.")


class Card(Frozen):
    """Everything that stands on a card."""

    title: str = Field(description="Name of the model.")
    kind: str = Field(description="Kind of the step that made it: compress or train.")
    summary: str = Field(description="What it is, in a sentence.")
    base_model: str | None = Field(default=None, description="Hub id of what it was made from.")
    license: str | None = Field(default=None, description="Licence of the base, as the hub's id.")
    tags: tuple[str, ...] = Field(default=(), description="Labels.")
    scores: tuple[ScoreRow, ...] = Field(default=(), description="Evaluation table.")
    confidence: float = Field(default=0.95, description="Of the intervals.")
    serving: tuple[ServingRow, ...] = Field(default=(), description="Benchmark table.")
    serving_hardware: str = Field(default="", description="What was measured on.")
    recipe: str = Field(default="", description="YAML of the recipe as it was applied.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of the step.")
    commands: tuple[str, ...] = Field(default=(), description="What to type to make it again.")
    provenance: tuple[tuple[str, str], ...] = Field(default=(), description="Label and value.")


def render_card(card: Card) -> str:
    """The text of README.md."""
    head = {
        "license": card.license,
        "base_model": card.base_model,
        "base_model_relation": RELATIONS.get(card.kind) if card.base_model else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(dict.fromkeys(("labwright", *card.tags))),
    }
    known = {key: value for key, value in head.items() if value is not None}
    front = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(card)).rstrip() + "\n"


def _body(card: Card) -> Iterator[str]:
    yield from (f"# {_plain(card.title)}", "", _plain(card.summary), "")
    if card.license is None:
        yield "The licence of the base model was not stated; find it out before you share this."
        yield ""
    yield from ("## Evaluation", "")
    if card.scores:
        level = f"{100 * card.confidence:g}%"
        headers = ("metric", f"score ({level})", "base model", f"recovery ({level})", "items")
        rows = [(r.metric, r.score, r.baseline, r.recovery, str(r.num_items)) for r in card.scores]
        yield from _table(headers, rows)
        yield from (
            "",
            "Recovery is the share of the base model's score that was kept, by items.",
        )
    else:
        yield "This model was not evaluated."
    if card.serving:
        yield from ("", "## Serving", "")
        headers = ("load", "output tokens/s", "TTFT p50 / p99", "ITL p50 / p99", "repeats")
        served = [
            (r.load, r.tokens_per_s, r.ttft_ms, r.itl_ms, str(r.num_repeats)) for r in card.serving
        ]
        yield from _table(headers, served)
        yield from ("", f"Medians over repeats, served by vLLM on {card.serving_hardware}.")
    yield from ("", "## How it was made", "")
    if card.recipe:
        yield from ("Recipe as it was applied:", "", *_block(card.recipe, "yaml"), "")
    if card.settings:
        settings = yaml.safe_dump(card.settings, sort_keys=False, allow_unicode=True)
        yield from (f"Fields of the {card.kind} step:", "", *_block(settings, "yaml"), "")
    if card.commands:
        yield from ("To make it again:", "", *_block("\n".join(card.commands), "sh"), "")
    yield from _table(("", "provenance"), card.provenance)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headers)} |"
    yield "|" + "---|" * len(headers)
    for row in rows:
        yield f"| {' | '.join(_plain(cell).replace('|', chr(92) + '|') for cell in row)} |"


def _block(text: str, language: str) -> list[str]:
    """A fenced block that its own text cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}{language}", text.rstrip(), fence]


def _plain(text: str) -> str:
    """One line, in which nothing is markup of HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
