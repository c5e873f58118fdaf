"""Which runs are meant: those of one file, or those that a folder holds or holds the files of.

for runs in runs_at(Path("experiments")):       # one list a file, oldest run first
    runs[-1].report.file
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from flows.analysis.evidence import RunEvidence
from flows.experiment.folder import RunFolder, all_runs
from flows.experiment.record import RunReport
from tasks.errors import SpecError, StoreError

MAX_RUNS = 30  # of one file; pairs of them are compared item by item
LOGGER = logging.getLogger(__name__)


def runs_of_file(file: str) -> list[RunEvidence]:
    """The newest runs of an experiment file, oldest first, without those that cannot be read."""
    return _read(lambda _, report: report.file == file)


def runs_at(folder: Path) -> list[list[RunEvidence]]:
    """Runs whose folders lie in `folder`, or whose experiment files do, by file.

    Raises `SpecError` where there are none.
    """
    root = folder.resolve()

    def is_meant(run: RunFolder, report: RunReport) -> bool:
        path = run.path.resolve()
        return root in (path, path.parent) or root in Path(report.file).parents

    found: dict[str, list[RunEvidence]] = {}
    for run in _read(is_meant):
        found.setdefault(run.report.file, []).append(run)
    if not found:
        raise SpecError(
            f"{folder} holds no run, and no experiment file that was run; type: labwright list"
        )
    return list(found.values())


def _read(is_meant: Callable[[RunFolder, RunReport], bool]) -> list[RunEvidence]:
    meant: dict[str, list[RunFolder]] = {}
    for run in all_runs():
        try:
            report = run.read()
        except StoreError:  # `labwright list` says that it is damaged
            continue
        if report is not None and is_meant(run, report):
            meant.setdefault(report.file, []).append(run)
    for file, runs in meant.items():
        if len(runs) > MAX_RUNS:
            LOGGER.warning("%s: of its %d runs the newest %d are read", file, len(runs), MAX_RUNS)
    newest = [run for runs in meant.values() for run in runs[-MAX_RUNS:]]
    return [RunEvidence.read(run) for run in sorted(newest, key=lambda run: run.id)]
