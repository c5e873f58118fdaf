"""`labwright report [RUN] [--out FILE]`: one HTML page of a run."""

from __future__ import annotations

import json
from pathlib import Path

from flows.analysis.ablation import ablations_of
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact
from flows.analysis.findings import facts_of
from flows.analysis.keep import FACTS_JSON, RUN_PAGE, keep
from flows.analysis.numbers import check_numbers
from flows.analysis.prose import Prose
from flows.analysis.runs import runs_of_file
from flows.experiment import find_run, finish_abandoned
from tasks.errors import SpecError


def report(name: str, out: Path | None) -> None:
    """Write the page and print where it lies."""
    from flows.analysis.page import page_of

    finish_abandoned()
    run = RunEvidence.read(find_run(name))
    target = out.absolute() if out else run.folder.page / RUN_PAGE
    if target.is_dir():
        raise SpecError(f"--out: {target} is a folder; name a file, such as {target}/{RUN_PAGE}")
    facts = facts_of(run, ablations_of(run, runs_of_file(run.report.file)))
    page = page_of(run, facts, _kept_prose(run, facts))
    print(keep(target.parent, target.name, page))


def _kept_prose(run: RunEvidence, facts: tuple[Fact, ...]) -> Prose | None:
    """What `labwright analyze` was told of this run, its numbers checked again."""
    try:
        found = json.loads((run.folder.page / FACTS_JSON).read_bytes())["prose"]
        return Prose(check_numbers(str(found["text"]), facts), str(found["model"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
