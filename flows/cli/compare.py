"""`labwright compare`: what differs between runs, as tables and in words, or as one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import stdout_console
from flows.compare import RunComparison, RunDifference, compare_runs, find_runs
from flows.compare.outcome import Correction, Outcome, none_of
from flows.compare.rows import Row
from flows.compare.surroundings import Difference, in_short
from flows.experiment import finish_abandoned
from tasks.analyze.equivalence import Equivalence
from tasks.analyze.table import percent
from tasks.errors import Problem, SpecError, nearest
from tasks.scrubbing import scrub

STYLES = {
    Outcome.BETTER: "green",
    Outcome.WORSE: "bold red",
    Outcome.DIFFERENT: "cyan",
    Outcome.NOT_COMPARABLE: "yellow",
}
CLAIMS = {
    Equivalence.NO_WORSE: ("shown", "green"),
    Equivalence.WORSE: ("refuted", "bold red"),
    Equivalence.UNDECIDED: ("undecided", ""),
}
MAX_VALUE_CHARACTERS = 60


def compare(
    names: Sequence[str],
    matches: Sequence[str],
    as_json: bool,
    *,
    correction: Correction = Correction.HOLM,
    no_worse_than: str | None = None,
) -> int:
    """Compare runs with the first; 1 where something of them is damaged, else 0."""
    finish_abandoned()
    if len(names) < 2:
        raise SpecError("give two runs or more: labwright compare BASELINE RUN")
    margin = parse_margin(no_worse_than) if no_worse_than is not None else None
    found = compare_runs(
        find_runs(names), parse_matches(matches), correction=correction, margin=margin
    )
    if as_json:
        document = found.model_dump(mode="json")
        print(json.dumps(scrub({**document, "problems": found.problems})))
    else:
        _print(stdout_console(), found)
    return 1 if found.problems else 0


def parse_correction(text: str) -> Correction:
    """`holm` or `bh`; `SpecError` with what is valid."""
    try:
        return Correction(text)
    except ValueError:
        known = [one.value for one in Correction]
        message = f"there is no correction '{text}'{nearest(text, known)}; there are "
        raise SpecError([Problem(message + ", ".join(known), "--correction")]) from None


def parse_margin(text: str) -> float:
    """`1%` or `0.01`; `SpecError` for what is no share between 0 and 1."""
    is_percent = text.strip().endswith("%")
    try:
        margin = float(text.strip().removesuffix("%")) / (100 if is_percent else 1)
    except ValueError:
        margin = math.nan
    if not 0 < margin < 1:
        message = f"'{text}' is no share above 0 and below 1; give one such as 1% or 0.01"
        raise SpecError([Problem(message, "--no-worse-than")])
    return margin


def parse_matches(texts: Iterable[str]) -> dict[str, str]:
    """`a=b`: step a of the baseline stands against step b; `SpecError` for anything else."""
    matches, problems = {}, []
    for text in texts:
        name, sign, other = text.partition("=")
        if not (name and sign and other):
            problems.append(Problem(f"'{text}' is not BASELINE_STEP=OTHER_STEP", "--match"))
        elif name in matches:
            problems.append(Problem(f"step '{name}' is matched twice", "--match"))
        matches[name] = other
    if problems:
        raise SpecError(problems)
    return matches


def _print(console: Console, found: RunComparison) -> None:
    base = found.baseline
    console.print(Text.assemble(("baseline  ", "dim"), (base.id, "bold"), f"  {base.name}"))
    for other in found.others:
        _print_other(console, other, found.margin)
    if found.num_tests:
        console.print(
            Text(
                f"\nIntervals hold {found.confidence:.0%} each; p is corrected over the "
                f"{found.num_tests} tests of this comparison ({found.correction.words}).",
                style="dim",
            ),
            soft_wrap=True,
        )
    for problem in found.problems:
        console.print(Text(problem, style="red"), soft_wrap=True)


def _print_other(console: Console, other: RunDifference, margin: float | None) -> None:
    run = other.run
    console.print(Text.assemble("\n", ("against   ", "dim"), (run.id, "bold"), f"  {run.name}"))
    _heading(console, "values that differ in the files")
    for change in other.modifications:
        before, after = (_short(json.dumps(v)) for v in (change.before, change.after))
        console.print(Text(f"  {change.parameter}: {before} -> {after}"), soft_wrap=True)
    for words, names in (("baseline", other.only_in_baseline), ("other run", other.only_in_other)):
        if names:
            console.print(Text(f"  only the {words} has {', '.join(names)}"), soft_wrap=True)
    if not (other.modifications or other.only_in_baseline or other.only_in_other):
        console.print("  none")
    _heading(console, "circumstances that differ")
    console.print(_surroundings(other.surroundings) if other.surroundings else "  none")
    _heading(console, "results")
    shown = [row for row in other.rows if row.outcome is not Outcome.EQUAL]
    if shown:
        console.print(_results(shown, margin))
    for line in _remarks(other.rows):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _heading(console: Console, words: str) -> None:
    console.print(Text(f"\n{words}", style="bold"))


def _surroundings(found: Sequence[Difference]) -> Table:
    table = Table("side", "what", "baseline", "other", "steps", box=None, pad_edge=False)
    for item in found:
        values = [_short(in_short(value)) for value in (item.baseline, item.other)]
        cells = (item.aspect.value, item.what, *values, ", ".join(item.steps))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _results(rows: Sequence[Row], margin: float | None) -> Table:
    """With a column for the margin, where one was asked for."""
    table = Table(box=None, pad_edge=False)
    for column in ("step", "what", "baseline", "other", "change (interval)", "p", "outcome"):
        is_number = column in ("baseline", "other", "change (interval)", "p")
        table.add_column(column, justify="right" if is_number else "left")
    if margin is not None:
        table.add_column(f"no worse than {percent(margin)}")
    for row in rows:
        outcome = Text(row.outcome.value, style=STYLES.get(row.outcome, ""))
        numbers = (_number(row.baseline), _number(row.other), _change(row))
        p_value = f"{row.p_corrected:.3g}" if row.p_corrected is not None else ""
        claim = [_claim(row)] if margin is not None else []
        table.add_row(Text(row.step), Text(row.what), *map(Text, numbers), p_value, outcome, *claim)
    return table


def _claim(row: Row) -> Text:
    if row.no_worse is None:
        return Text("")
    if row.no_worse.reason is not None:
        return Text(row.no_worse.reason)
    words, style = CLAIMS[row.no_worse.verdict]
    p_value = row.no_worse.p_corrected
    return Text(words if p_value is None else f"{words} (p {p_value:.2g})", style=style)


def _change(row: Row) -> str:
    """A difference with its interval; a ratio as change in percent; nothing if not comparable."""
    if row.outcome is Outcome.NOT_COMPARABLE or row.difference is None:
        return ""
    found = row.repeats or row.paired
    if found is not None and found.estimate is not None and none_of(found) == 1:
        change = f"{100 * (found.estimate - 1):+.1f}%"
        if found.low is None or found.high is None:
            return change
        return f"{change} ({100 * (found.low - 1):+.1f} to {100 * (found.high - 1):+.1f})"
    change = f"{row.difference:+.4g}"
    if row.paired is None or row.paired.low is None or row.paired.high is None:
        return change
    return f"{change} ({row.paired.low:+.3g} to {row.paired.high:+.3g})"


def _remarks(rows: Sequence[Row]) -> list[str]:
    """Reasons and caveats, each once, with what they are of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        is_whole_step = row.outcome is Outcome.EQUAL and row.reason is not None
        label = row.step if is_whole_step else f"{row.step} {row.what}"
        if row.reason:
            head = "not comparable: " if row.outcome is Outcome.NOT_COMPARABLE else ""
            found.setdefault(f"{head}{row.reason}", []).append(label)
        elif row.outcome is Outcome.EQUAL:
            found.setdefault("the same numbers", []).append(label)
        if row.sensitivity is not None and row.sensitivity.words:
            found.setdefault(row.sensitivity.words, []).append(label)
        if row.caveats:
            words = f"may be moved by {'; '.join(row.caveats)}"
            found.setdefault(words, []).append(row.step)
    return [f"{words} ({_listed(labels)})" for words, labels in found.items()]


def _listed(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(labels))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _short(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 1]}…"
