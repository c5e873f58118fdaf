"""A fact: one claim with every number that it makes, and where it comes from.

    Fact(kind=FactKind.BASELINE, claim="w8a8 kept 99.9% of …", numbers={"recovery": 0.9991},
         source="step analysis, rows")

The same run gives the same facts, byte for byte: nothing here knows the time or draws at random.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from tasks.spec import Frozen

CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


class FactKind(StrEnum):
    """What a fact is about, in the order in which facts are told."""

    RUN = "the run"
    PERFORMANCE = "performance"
    BOTTLENECK = "bottlenecks"
    BASELINE = "against the baseline"
    ABLATION = "ablation"
    DATA = "data integrity"
    MODEL = "model integrity"


class Fact(Frozen):
    """One claim that its numbers bear out."""

    kind: FactKind = Field(description="What it is about.")
    claim: str = Field(min_length=1, description="In words, numbers rounded.")
    numbers: dict[str, int | float] = Field(description="Its numbers in full, by name.")
    source: str = Field(min_length=1, description="The step, record or file they come from.")
    needs_attention: bool = Field(default=False, description="Whether somebody should look at it.")


def by_kind(facts: Sequence[Fact]) -> dict[FactKind, list[Fact]]:
    """Facts under the kinds that there are, in the order of the kinds."""
    found = {kind: [fact for fact in facts if fact.kind is kind] for kind in FactKind}
    return {kind: those for kind, those in found.items() if those}


def digits(value: float) -> str:
    """A number as claims print it: four significant digits, `1,838,528` where it is whole."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 item`, `1,200 items`, `2 entries`."""
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"


def printable(text: str) -> str:
    """Text without what moves a cursor, colours, or turns the direction of writing."""
    return CONTROL.sub("", text)


def as_markdown(title: str, facts: Sequence[Fact], prose: str = "") -> str:
    """facts.md: prose if there is any, then claims under their kinds with numbers and source.

    What names and models say cannot become HTML.
    """
    lines = [f"# {title}", ""]
    if prose:
        lines += ["Written by a language model over the facts below.", "", _plain(prose), ""]
    for kind, those in by_kind(facts).items():
        lines += [f"## {kind.value.capitalize()}", ""]
        for fact in those:
            mark = "**Look at this:** " if fact.needs_attention else ""
            numbers = json.dumps(fact.numbers)
            lines += [f"- {mark}{_plain(fact.claim)}  ", f"  `{numbers}` ({_plain(fact.source)})"]
        lines.append("")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return html.escape(printable(text), quote=False)
