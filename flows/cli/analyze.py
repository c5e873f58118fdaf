"""`labwright analyze RUN|DIR`: facts, printed and kept; prose where a language model is set up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from flows.analysis.ablation import ablations, ablations_of, distinct
from flows.analysis.endpoint import NoAnswer, endpoint_of
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, as_markdown, by_kind, printable
from flows.analysis.findings import facts_of
from flows.analysis.keep import FACTS_JSON, FACTS_MARKDOWN, keep
from flows.analysis.prose import Prose, write_prose
from flows.analysis.runs import runs_at, runs_of_file
from flows.cli.terminal import stdout_console
from flows.experiment import find_run, finish_abandoned
from tasks.settings import settings


@dataclass(frozen=True)
class Analysis:
    """One run with its facts, and with prose where some was written."""

    run: RunEvidence
    facts: tuple[Fact, ...]
    prose: Prose | None

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run.report.id,
            "name": self.run.report.name,
            "status": self.run.report.status.value,
            "facts": [fact.model_dump(mode="json") for fact in self.facts],
            "prose": self.prose.to_json() if self.prose else None,
        }


def analyze(target: str, as_json: bool) -> None:
    """Facts of a run, or of the newest run of every file that a folder holds runs of."""
    finish_abandoned()
    found = [_with_prose(run, facts) for run, facts in _facts_at(target)]
    for analysis in found:
        page = analysis.run.folder.page
        keep(page, FACTS_JSON, json.dumps(analysis.to_json(), indent=1, ensure_ascii=False))
        title = f"{analysis.run.report.name}: {analysis.run.report.id}"
        prose = analysis.prose.text.marked() if analysis.prose else ""
        keep(page, FACTS_MARKDOWN, as_markdown(title, analysis.facts, prose))
    if as_json:
        documents = [analysis.to_json() for analysis in found]
        print(json.dumps(documents if Path(target).is_dir() else documents[0]))
        return
    console = stdout_console()
    for analysis in found:
        _print(console, analysis)


def _facts_at(target: str) -> list[tuple[RunEvidence, tuple[Fact, ...]]]:
    if not Path(target).is_dir():
        run = RunEvidence.read(find_run(target))
        changes = ablations_of(run, runs_of_file(run.report.file))
        return [(run, facts_of(run, changes))]
    found = []
    for runs in runs_at(Path(target)):
        newest = (distinct(runs) or runs)[-1]
        found.append((newest, facts_of(newest, ablations(runs))))
    return found


def _with_prose(run: RunEvidence, facts: Sequence[Fact]) -> Analysis:
    """Whatever goes wrong with the prose is said, and takes nothing from the facts."""
    prose = None
    try:
        endpoint = endpoint_of(settings())
        if endpoint is not None:
            prose = asyncio.run(write_prose(endpoint, run.report, facts))
    except NoAnswer as error:
        print(f"warning: there is no prose: {error}", file=sys.stderr)
    return Analysis(run, tuple(facts), prose)


def _print(console: Console, analysis: Analysis) -> None:
    report = analysis.run.report
    console.print(Text.assemble((report.name, "bold"), f"  {report.id}  {report.status.value}"))
    if analysis.prose is not None:
        text = Text()
        for part, is_wrong in analysis.prose.text.parts():
            text.append(part, style="bold red reverse" if is_wrong else "")
            text.append(" [not in the facts]" if is_wrong else "", style="red")
        console.print(f"\n[bold]in the words of {analysis.prose.model}[/bold]", highlight=False)
        console.print(Padding(text, (0, 2)))
    for kind, facts in by_kind(analysis.facts).items():
        console.print(Text(f"\n{kind.value}", style="bold"))
        for fact in facts:
            mark = ("! ", "bold yellow") if fact.needs_attention else "  "
            line = Text.assemble(mark, printable(fact.claim), (f"  ({fact.source})", "dim"))
            console.print(line, soft_wrap=not console.is_terminal, highlight=False)
    folder = analysis.run.folder.page
    console.print(f"\nfacts     {folder / FACTS_MARKDOWN}", soft_wrap=True, highlight=False)
