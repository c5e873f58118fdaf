"""`labwright reproduce`: a run again, and whether each number came out as it did."""

from __future__ import annotations

import asyncio
import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import duration_words, stdout_console, watcher_for
from flows.compare.surroundings import Difference
from flows.experiment import find_run, finish_abandoned
from flows.reproduce import (
    Likeness,
    Reproduction,
    ReproductionOptions,
    StepReproduction,
    reproduce_run,
)
from flows.reproduce.record import NumberCheck
from tasks.scrubbing import scrub

STYLES = {
    Likeness.IDENTICAL: "green",
    Likeness.WITHIN: "green",
    Likeness.FOLLOWS: "dim",
    Likeness.UNDECIDED: "yellow",
    Likeness.OUTSIDE: "bold red",
    Likeness.FAILED: "bold red",
    Likeness.UNKNOWN: "yellow",
}
MAX_NUMBERS = 10  # outside, of one step


def reproduce(name: str, options: ReproductionOptions, as_json: bool) -> int:
    """Do a run again; 0 if all came out as it should, else 1."""
    finish_abandoned()
    watcher = watcher_for(Console(stderr=True))
    found = asyncio.run(reproduce_run(find_run(name), options, [watcher]))
    if as_json:
        document = found.model_dump(mode="json")
        print(json.dumps(scrub({**document, "is_reproduced": found.is_reproduced})))
    else:
        _print(stdout_console(), found)
    return 0 if found.is_reproduced else 1


def _print(console: Console, found: Reproduction) -> None:
    words, style = _overall(found)
    console.print()
    console.print(
        Text.assemble((words, style), f"  run {found.run}  {duration_words(found.seconds)}")
    )
    for change in found.changes:
        console.print(Text(f"  {change}", style="yellow"), soft_wrap=True)
    console.print()
    console.print(_steps(found))
    for name, step in found.steps.items():
        _print_step(console, name, step)
    if found.surroundings or found.code_changed:
        console.print(Text("\nwhat else is not as it was", style="bold"))
        if found.code_changed:
            console.print(f"  the code of {', '.join(found.code_changed)}", soft_wrap=True)
        for item in found.surroundings:
            console.print(Text(f"  {_words(item)}"), soft_wrap=True)
    if found.store:
        console.print(f"\nstore     {found.store}", soft_wrap=True, highlight=False)


def _overall(found: Reproduction) -> tuple[str, str]:
    if found.is_reproduced:
        return "reproduced", "bold green"
    bad = {step.verdict for step in found.steps.values() if not step.verdict.is_good}
    return ("undecided", "bold yellow") if bad == {Likeness.UNDECIDED} else ("not so", "bold red")


def _words(item: Difference) -> str:
    return f"{item.aspect.value}: {item} ({', '.join(item.steps)})"


def _steps(found: Reproduction) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("step", "kind", "expected", "verdict", "numbers", "artifacts", "then", "now"):
        is_right = column in ("numbers", "artifacts", "then", "now")
        table.add_column(column, justify="right" if is_right else "left")
    for name, step in found.steps.items():
        within = sum(check.is_within for check in step.numbers)
        same = sum(check.is_identical for check in step.artifacts)
        table.add_row(
            Text(name),
            Text(step.kind, style="dim"),
            step.expectation.value,
            Text(step.verdict.value, style=STYLES[step.verdict]),
            f"{within} of {len(step.numbers)}" if step.numbers else "",
            f"{same} of {len(step.artifacts)}" if step.artifacts else "",
            duration_words(step.seconds_before),
            duration_words(step.seconds_now),
        )
    return table


def _print_step(console: Console, name: str, step: StepReproduction) -> None:
    """What is not identical: why that may be, and what it is where it should not."""
    if step.verdict is Likeness.IDENTICAL:
        return
    lines = list(step.reasons)
    if step.verdict in (Likeness.OUTSIDE, Likeness.UNDECIDED):
        outside = [check for check in step.numbers if not check.is_within]
        lines += [_number(check) for check in outside[:MAX_NUMBERS]]
        lines += [f"and {len(outside) - MAX_NUMBERS} more numbers"] * (len(outside) > MAX_NUMBERS)
        for check in step.artifacts:
            if not check.is_identical:
                files = f": {', '.join(check.files[:5])}" if check.files else ""
                lines.append(f"artifact {check.name} has other bytes{files}")
    if lines:
        console.print(Text(f"\n{name}", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _number(check: NumberCheck) -> str:
    before, now = ("absent" if v is None else f"{v:.6g}" for v in (check.before, check.now))
    ratio = f", {check.ratio:.3g} times" if check.ratio is not None else ""
    allowed = f"; {check.tolerance:.0%} is allowed" if check.tolerance else ""
    reason = f"; {check.reason}" if check.reason else ""
    return f"{check.name}: {before} then, {now} now{ratio}{allowed}{reason}"
