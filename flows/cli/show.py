"""`labwright show` and `list`: runs as they are kept; those that died are finished first."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.cli.outcome import (
    STATUS_STYLES,
    analysis_tables,
    command_name,
    print_status,
    steps_table,
)
from flows.cli.terminal import duration_words, size_words, stdout_console
from flows.experiment import RunFolder, RunReport, all_runs, find_run, finish_abandoned
from flows.experiment.folder import unfinished_runs
from flows.experiment.lineage import ancestors
from flows.experiment.outputs import outputs_of
from tasks.errors import Corrupted, StoreError
from tasks.provenance import changes_digest
from tasks.registry import step_of
from tasks.scrubbing import scrub
from tasks.store import open_store

DAMAGED = "damaged"  # shown in the place of a status


def list_runs(limit: int, as_json: bool) -> None:
    """The newest runs, and those that go on however old they are."""
    finish_abandoned()
    everything = all_runs()
    going_on = {run.id for run in unfinished_runs()}
    chosen = [run for run in everything[:-limit] if run.id in going_on] + everything[-limit:]
    runs = [(run.id, _report_or_why(run)) for run in reversed(chosen)]
    if as_json:
        print(json.dumps([_as_json(run, report) for run, report in runs]))
        return
    if not runs:
        print("there are no runs yet; type: labwright run FILE")
        return
    table = Table("id", "name", "status", "started", "time", "steps", box=None, pad_edge=False)
    for run, report in runs:
        if not isinstance(report, RunReport):
            table.add_row(run, Text(report), Text(DAMAGED, style="red"))
            continue
        table.add_row(
            report.id,
            Text(report.name),
            Text(report.status.value, style=STATUS_STYLES.get(report.status, "red")),
            f"{report.started.astimezone():%Y-%m-%d %H:%M}",
            duration_words(report.seconds),
            str(len(report.steps)),
        )
    stdout_console().print(table)
    if hidden := len(everything) - len(runs):
        every = f"{command_name()} list --limit {len(everything)}"
        print(f"and {hidden} older; type: {every}")


def _report_or_why(run: RunFolder) -> RunReport | str:
    """What is known of a run, or why nothing is."""
    try:
        return run.read() or "its run.json is gone"
    except StoreError as error:
        return str(error)


def _as_json(run: str, report: RunReport | str) -> dict[str, Any]:
    if isinstance(report, str):
        return {"id": run, "status": DAMAGED, "problem": report}
    fields = {"id", "name", "status", "file", "started", "seconds", "parent"}
    return report.model_dump(mode="json", include=fields)


def show_run(name: str, as_json: bool) -> None:
    """One run with everything that is known of it."""
    folder, report = _find(name)
    provenance = step_provenance(report)
    if as_json:
        document = report.model_dump(mode="json")
        document["provenance"] = {"run": report.provenance, "steps": provenance}
        print(json.dumps(scrub(document)))
        return
    console = stdout_console()
    print_status(console, report)
    console.print()
    console.print(steps_table(report))
    for table in analysis_tables(report):
        console.print()
        console.print(table)
    console.print()
    for label, text in _facts(folder, report):
        console.print(Text.assemble((f"{label:<12}", "dim"), text), soft_wrap=True)
    for step, facts in provenance.items():
        outputs = facts.get("outputs", {})
        console.print(f"\n[bold]{step}[/bold]", highlight=False)
        for label, text in _provenance_lines(facts):
            console.print(Text.assemble((f"  {label:<14}", "dim"), text), soft_wrap=True)
        if outputs:
            console.print(_outputs_table(step, outputs))
    if any(facts.get("outputs") for facts in provenance.values()):
        command = f"{command_name()} export {report.id} STEP[.FIELD] --to PATH"
        words = Text.assemble(("\nas files   ", "dim"), command)
        console.print(words, soft_wrap=True)


def _outputs_table(step: str, outputs: dict[str, dict[str, Any]]) -> Table:
    """What a step made, by the names that a file calls it by."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for column in ("name", "kind", "size", "digest"):
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=True)
    for field, ref in outputs.items():
        size = size_words(ref["size_bytes"])
        name = Text(f"  ${{steps.{step}.{field}}}")
        table.add_row(name, Text(ref["kind"], style="dim"), size, ref["digest"][:12])
    return table


def show_lineage(name: str, as_json: bool) -> None:
    """The run and those before it, newest first, with what each changed."""
    folder, _ = _find(name)
    chain = ancestors(folder)
    if as_json:
        fields = {"id", "name", "status", "parent", "modifications", "header"}
        print(json.dumps([report.model_dump(mode="json", include=fields) for report in chain]))
        return
    console = stdout_console()
    for report in chain:
        console.print(Text.assemble((report.id, "bold"), f"  {report.name}  {report.status.value}"))
        for change in report.modifications:
            before, after = json.dumps(change.before), json.dumps(change.after)
            console.print(Text(f"  {change.parameter}: {before} -> {after}"), soft_wrap=True)
        if report.parent and not report.modifications:
            console.print("  nothing changed")
        for line in _reproductions(report.id):
            console.print(Text(f"  {line}"), soft_wrap=True)


def _reproductions(run: str) -> list[str]:
    """When a run was done again, and how that came out."""
    from flows.reproduce import reproductions_of

    return [
        f"reproduced {again.started.astimezone():%Y-%m-%d %H:%M}: "
        + ("all as it was" if again.is_reproduced else "not all as it was")
        + (f" (step {again.only})" if again.only else "")
        for again in reproductions_of(find_run(run))
    ]


def _find(name: str) -> tuple[RunFolder, RunReport]:
    finish_abandoned()
    folder = find_run(name)
    report = folder.read()
    if report is None:
        raise StoreError(f"{folder.path} holds no run.json")
    return folder, report


def step_provenance(report: RunReport) -> dict[str, dict[str, Any]]:
    """Where each result came from, and its artifacts; a damaged record says so."""
    store = open_store()
    found: dict[str, dict[str, Any]] = {}
    for name, step in report.steps.items():
        if step.identity is None or not step.state.has_result:
            continue
        try:
            record = store.read_record(step.kind, step.identity)
        except Corrupted as error:
            found[name] = {"damaged": str(error)}
            continue
        if record is None:
            found[name] = {"damaged": "the record is gone"}
            continue
        artifacts = [ref.model_dump(mode="json") for ref in record.artifacts]
        outputs = {
            field: ref.model_dump(mode="json")
            for field, ref in outputs_of(step_of(record.step).result(record)).items()
        }
        found[name] = {
            "identity": step.identity,
            **record.provenance,
            "artifacts": artifacts,
            "outputs": outputs,
        }
    return found


def _facts(folder: RunFolder, report: RunReport) -> list[tuple[str, str]]:
    header = report.header
    facts = [
        ("file", report.file),
        ("set", ", ".join(report.overrides)),
        ("hypothesis", str(header.get("hypothesis", ""))),
        ("question", str(header.get("research_question", ""))),
        ("tags", ", ".join(header.get("tags", ()))),
        ("parent", report.parent or ""),
        ("command", " ".join(report.provenance.get("argv", ()))),
        ("host", str(report.provenance.get("host", ""))),
        ("code", _commit(report.provenance.get("labwright"))),
        ("project", _commit(report.provenance.get("project"))),
        ("folder", str(folder.path)),
        ("logs", str(folder.logs)),
        ("report", report.report or ""),
        ("bundle", report.bundle or ""),
    ]
    return [(label, text) for label, text in facts if text]


def _provenance_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    if "damaged" in facts:
        return [("damaged", facts["damaged"])]
    hardware = facts.get("hardware", {})
    versions = facts.get("versions", {})
    peak = facts.get("peak_memory_bytes")
    lines = [
        ("computed", f"{facts.get('started', '')} in {duration_words(facts.get('duration_s'))}"),
        ("by", " ".join(facts.get("argv", ()))),
        ("environment", facts.get("environment", "")),
        ("code", _commit(facts.get("labwright"))),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("hardware", f"{hardware.get('cpu_model', '')}, {hardware.get('num_cpus', '')} CPUs"),
        ("GPUs", ", ".join(facts.get("gpus", ()))),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in facts.get("seeds", {}).items())),
        ("peak memory", size_words(peak) if peak else ""),
    ]
    return [(label, text) for label, text in lines if text]


def _commit(state: dict[str, Any] | None) -> str:
    if not state:
        return ""
    changes = changes_digest(state)
    return f"{state['commit'][:12]}{f' and changes {changes[:12]}' if changes else ''}"
