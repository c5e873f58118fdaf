"""How a run ended, for people: the table of its analysis, its deliverables, where it all lies."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.terminal import STYLES, duration_words, stdout_console
from flows.experiment import DeliverableState, RunFolder, RunReport, RunStatus, StepState
from flows.experiment.folder import runs_folder
from tasks.errors import Corrupted
from tasks.evaluate.group_table import group_table
from tasks.registry import step_of
from tasks.store import open_store
from tasks.verdict import GateResult, Verdict

STATUS_STYLES = {RunStatus.DONE: "bold green", RunStatus.RUNNING: "bold cyan"}
VERDICT_STYLES = {
    Verdict.PASSED: "green",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.MISSING: "bold red",
    Verdict.FAILED: "bold red",
}
DELIVERABLE_STYLES = {DeliverableState.DELIVERED: "green"}


def print_outcome(report: RunReport) -> None:
    """The end of `labwright run`."""
    console = stdout_console()
    for table in analysis_tables(report):
        console.print()
        console.print(table)
    console.print()
    print_status(console, report)
    if report.report:
        console.print(f"report    {report.report}", soft_wrap=True, highlight=False)
    if report.bundle:
        console.print(f"bundle    {report.bundle}", soft_wrap=True, highlight=False)
    if report.status is not RunStatus.DONE:
        logs = RunFolder(runs_folder() / report.id).logs
        console.print(f"logs      {logs}", soft_wrap=True, highlight=False)
    console.print("\ntry next")
    for command in next_commands(report):
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def print_status(console: Console, report: RunReport) -> None:
    """Status, what failed and why, every gate and every deliverable."""
    style = STATUS_STYLES.get(report.status, "bold red")
    seconds = duration_words(report.seconds)
    console.print(
        Text.assemble((report.status.value, style), f"  {report.name}  {report.id}  {seconds}")
    )
    for name, step in report.steps.items():
        if step.error:
            words = step.error.replace("\n", "\n    ")
            console.print(Text(f"  {name}: {words}", style=STYLES[step.state]), soft_wrap=True)
    for problem in report.problems:
        console.print(Text(f"  {problem}", style="red"))
    for name, gate in report.gates.items():
        _print_gate(console, name, gate)
    for name, found in report.deliverables.items():
        style = DELIVERABLE_STYLES.get(found.state, "bold red")
        line = Text.assemble("  ", (found.state.value, style), f"  {name} ({found.validation})")
        console.print(line)
        for problem in found.problems:
            console.print(Text(f"    {problem}"))


def _print_gate(console: Console, name: str, gate: GateResult) -> None:
    """The gate, and every criterion in its words."""
    style = "green" if gate.passed else "bold red"
    is_let_pass = gate.passed and gate.verdict is not Verdict.PASSED
    how = f"gate, {gate.verdict} and let pass" if is_let_pass else "gate"
    head = "passed" if gate.passed else gate.verdict.value
    console.print(Text.assemble("  ", (head, style), f"  {name} ({how})"))
    for criterion, found in gate.criteria.items():
        style = VERDICT_STYLES[found.verdict]
        line = Text.assemble("    ", (found.verdict.value, style), f"  {criterion}: {found.words}")
        console.print(line)


def analysis_tables(report: RunReport) -> list[Table]:
    """The comparison that each analyze step of the run made, the averages of each evaluation."""
    tables = []
    for name, step in report.steps.items():
        is_shown = step.kind in ("analyze", "evaluate")
        if not is_shown or not step.state.has_result or step.identity is None:
            continue
        try:
            record = open_store().read_record(step.kind, step.identity)
        except Corrupted:
            continue
        if record is None:
            continue
        result = step_of(step.kind).result(record)
        if step.kind == "analyze":
            tables.append(_comparison(result))
        elif result.groups:
            tables.append(group_table(result.groups, title=name))
    return tables


def _comparison(result: object) -> Table:
    from tasks.analyze import AnalyzeResult
    from tasks.analyze.table import comparison_table

    if not isinstance(result, AnalyzeResult):
        raise TypeError(f"{type(result).__name__} is no analysis")
    headers, lines = comparison_table(result.rows)
    headers = [
        header.replace(", recovery", "\nrecovery").replace(" interval)", ")") for header in headers
    ]
    return table_that_fits(headers, lines, stdout_console())


def table_that_fits(headers: list[str], lines: list[list[str]], console: Console) -> Table:
    """One line a variant; where that is wider than the console, one block a variant."""
    table = Table(box=None, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    at_will = console.options.update(max_width=sys.maxsize)
    if console.measure(table, options=at_will).maximum <= console.width:
        return table
    return _blocks(headers, lines)


def _blocks(headers: list[str], lines: list[list[str]]) -> Table:
    """Each variant by itself, one value below the other."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(no_wrap=True)
    for name, *cells in lines:
        table.add_row(Text(name, style="bold not dim"), "")
        for header, cell in zip(headers[1:], cells, strict=True):
            if cell:
                table.add_row("  " + header.replace("\n", ", "), Text(cell))
    return table


def next_commands(report: RunReport) -> list[str]:
    """Three commands that make sense now.

    What is unmet stays so when the run is resumed: its file, or what a step does, has to change.
    """
    file = Path(report.file)
    here = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    labwright = command_name()
    show = f"{labwright} show {report.id}"
    words = [str(here), *(word for typed in report.overrides for word in ("--set", typed))]
    run = f"{labwright} run {shlex.join(words)}"
    if report.status is RunStatus.DONE:
        kinds = {step.kind for step in report.steps.values()}
        kind = next((kind for kind in ("compress", "train", "command") if kind in kinds), "train")
        return [show, f"{run} --dry-run", f"{labwright} step {kind} --help"]
    is_unmet = report.status is RunStatus.PARTIAL_SUCCESS
    return [show, _read_logs(report), run if is_unmet else f"{labwright} resume {report.id}"]


def _read_logs(report: RunReport) -> str:
    """How to see what the step said that did not finish, or what there is of all of them."""
    logs = RunFolder(runs_folder() / report.id).logs
    for name, step in report.steps.items():
        said = logs / name / "stderr.txt"
        if not step.state.has_result and said.exists():
            return f"tail -n 50 {shlex.quote(str(said))}"
    return f"ls -R {shlex.quote(str(logs))}"


def command_name() -> str:
    """How to type this command from here: its name alone where that finds it."""
    typed = Path(sys.argv[0])
    is_module = typed.name == "__main__.py"
    program = Path(sys.executable) if is_module else typed
    found = shutil.which(program.name)
    is_found = found is not None and program.exists() and Path(found).samefile(program)
    name = program.name if is_found else shlex.quote(str(program))
    return f"{name} -m flows" if is_module else name


def steps_table(report: RunReport) -> Table:
    """One line a step."""
    table = Table(box=None, pad_edge=False)
    for column in ("step", "kind", "after", "state", "time", "identity"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for name, step in report.steps.items():
        table.add_row(
            Text(name),
            Text(step.kind, style="dim"),
            Text(", ".join(step.upstream)),
            Text(step.state.value, style=STYLES[StepState(step.state)]),
            duration_words(step.seconds),
            (step.identity or "")[:12],
        )
    return table
