"""One self-contained HTML page: nothing is fetched from anywhere, nothing in it runs.

    render_page(Page(title=…, baseline="baseline", confidence=0.95, rows=rows, fronts={}, plots={}))

The same page serves an analysis, which knows its comparison, and `labwright report`, which knows
the run around it. Every text is escaped; a browser is told to run and to fetch nothing besides.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import jinja2

from tasks.analyze.spec import VariantRow
from tasks.analyze.table import comparison_table, gaps, interval_notes, percent

Part = tuple[str, bool]  # a piece of text, and whether it is a number that is not in the facts


@dataclass(frozen=True)
class Promise:
    """One promise, gate or criterion, and what became of it."""

    name: str
    state: str
    is_good: bool
    words: str
    details: Sequence[tuple[str, str, bool]] = ()  # state, words, whether it is good


@dataclass(frozen=True)
class Claim:
    """One fact."""

    words: str
    source: str
    needs_attention: bool


@dataclass(frozen=True)
class Answer:
    """What one model made of an item."""

    model: str
    text: str
    scores: str


@dataclass(frozen=True)
class Item:
    """One item of a task that models answered differently."""

    task: str
    prompt: str
    target: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class RunPart:
    """What a page says of the run around a comparison."""

    id: str
    status: str
    is_good: bool
    about: Sequence[tuple[str, str]]  # label and text: question, hypothesis, when
    problems: Sequence[str]
    verdicts: Sequence[Promise]
    claims: Mapping[str, Sequence[Claim]]  # by kind
    prose: Sequence[Part]
    prose_model: str
    items: Sequence[Item]
    steps: Sequence[Sequence[str]]
    provenance: Sequence[tuple[str, str]]
    commands: Sequence[str]

    @property
    def attention(self) -> list[Claim]:
        """The facts that somebody should look at."""
        return [claim for those in self.claims.values() for claim in those if claim.needs_attention]


@dataclass(frozen=True)
class Page:
    """Everything that a page shows; `plots` maps alternative text to SVG, in the order shown."""

    title: str
    baseline: str | None
    confidence: float
    rows: tuple[VariantRow, ...]
    fronts: Mapping[str, tuple[str, ...]]
    plots: Mapping[str, str]
    run: RunPart | None = field(default=None)


def render_page(page: Page) -> str:
    """The page as HTML."""
    template = files("tasks.analyze").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    headers, lines = comparison_table(page.rows)
    return environment.from_string(template).render(
        title=page.title,
        baseline=page.baseline,
        confidence=percent(page.confidence),
        gaps=gaps(page.rows),
        interval_notes=interval_notes(page.rows),
        headers=headers,
        lines=lines,
        rows=page.rows,
        fronts={name: front for name, front in page.fronts.items() if front},
        plots={text: _as_image(svg) for text, svg in page.plots.items()},
        run=page.run,
    )


def _as_image(svg: str) -> str:
    """A data URI: inside an image the ids of one SVG cannot meet those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
