"""Which numbers of a text are not among the facts: found and marked, whoever wrote them.

    checked = check_numbers("It kept 97.2%, or 123%.", facts)
    checked.marked()           # "It kept 97.2%, or 123% [not in the facts]."

The text is first brought to compatibility form (NFKC), so that other scripts' and raised digits
count. Then a number of the text is in the facts if, signs aside, some number of theirs

    is equal to it, in full or at the four significant digits that claims print, or
    rounds to it at the decimals that are written, where it has two significant digits or more;

`12%` is looked for as 0.12, `1.8 million` as 1,800,000, and number words as integers: `two`,
`ninety` (not `one`, which is rarely a number). What has another form is never in the facts: `97,5`,
`12k`. Digits within names (`w8a8`) are no numbers, nor are numerals made of letters (`IV`).

A number of the facts in the wrong place is not found out: to which claim it belongs, only a reader
can tell.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flows.analysis.facts import Fact, digits

MARK = " [not in the facts]"
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
UNITS = "zero - two three four five six seven eight nine ten eleven twelve thirteen fourteen "
UNITS += "fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {
    **{word: n for n, word in enumerate(UNITS.split()) if word != "-"},
    **{word: 10 * n for n, word in enumerate(TENS.split(), start=2)},
    "dozen": 12,
    "hundred": 100,
    **{word: int(scale) for word, scale in SCALES.items()},
}
NUMBER = re.compile(
    r"(?<!\w)(?P<digits>\.?\d(?:[\d.,]*\d)?)(?P<power>[eE][+-]?\d+)?(?P<glued>\w+)?"
    r"(?P<scale>\s(?:thousand|million|billion)\b)?(?P<percent>\s?(?:%|percent\b|per cent\b))?"
    rf"|\b(?P<word>{'|'.join(WORDS)})\b",
    re.IGNORECASE,
)
PLAIN = re.compile(r"\d+(?:\.\d+)?|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\.\d+")
UNITS_GLUED = ("s", "ms", "x")


class Span(NamedTuple):
    """A number where it stands in a text."""

    begin: int
    end: int
    text: str


class CheckedText(NamedTuple):
    """A text in compatibility form, and its numbers that are not in the facts."""

    text: str
    unsupported: tuple[Span, ...]

    def parts(self) -> Iterator[tuple[str, bool]]:
        """The text piece by piece, with whether it is a number that is not in the facts."""
        at = 0
        for span in self.unsupported:
            yield self.text[at : span.begin], False
            yield span.text, True
            at = span.end
        yield self.text[at:], False

    def marked(self) -> str:
        """The text with a note behind each such number."""
        return "".join(f"{part}{MARK}" if is_wrong else part for part, is_wrong in self.parts())


def check_numbers(text: str, facts: Sequence[Fact]) -> CheckedText:
    """Find every number of a text that no fact holds."""
    plain = unicodedata.normalize("NFKC", text)
    known = [float(number) for fact in facts for number in fact.numbers.values()]
    return CheckedText(plain, tuple(span for span in _wrong(plain, known)))


def _wrong(text: str, known: Iterable[float]) -> Iterator[Span]:
    values = {abs(number) for number in known}
    values |= {float(digits(number)) for number in values}
    for match in NUMBER.finditer(text):
        if not _is_known(match, values):
            yield Span(match.start(), match.end(), match[0])


def _is_known(match: re.Match[str], known: set[float]) -> bool:
    if match["word"]:
        return float(WORDS[match["word"].lower()]) in known
    is_glued = match["glued"] is not None and match["glued"] not in UNITS_GLUED
    if is_glued or PLAIN.fullmatch(match["digits"]) is None:
        return False
    written = match["digits"].replace(",", "")
    factor = SCALES[match["scale"].strip().lower()] if match["scale"] else 1.0
    factor *= float(f"1{match['power']}") if match["power"] else 1.0
    factor /= 100 if match["percent"] else 1
    value = float(written) * factor
    if not math.isfinite(value):
        return False
    decimals = len(written.partition(".")[2])
    significant = len(written.replace(".", "").lstrip("0"))
    slack = 0.5 * 10.0**-decimals * factor if significant >= 2 else 0.0
    return any(abs(value - number) <= slack + 1e-9 * max(value, number) for number in known)
