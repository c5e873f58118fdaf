"""What a run changed against the run before it: found by comparing their files, not typed in.

modifications(parent, child)     # (Modification("steps.train.num_steps", 300, 600),)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flows.experiment.folder import RunFolder, all_runs, find_run
from flows.experiment.record import Modification, RunReport
from tasks.errors import StoreError

RESOLVED = "resolved.json"


def parent_of(file: str, asked: str | None) -> RunFolder | None:
    """The run that is asked for, else the newest one of the same file that can be read."""
    if asked is not None:
        return find_run(asked)
    for folder in reversed(all_runs()):
        report = _readable(folder)
        if report is not None and report.file == file:
            return folder
    return None


def _readable(folder: RunFolder) -> RunReport | None:
    """A run whose run.json is damaged is nobody's parent; `labwright list` says that it is."""
    try:
        return folder.read()
    except StoreError:
        return None


def ancestors(run: RunFolder) -> list[RunReport]:
    """The reports of a run and of the runs before it, newest first, as far as they are kept."""
    known = {folder.id: folder for folder in all_runs()}
    chain: list[RunReport] = []
    current: str | None = run.id
    while current in known and current not in [report.id for report in chain]:
        report = _readable(known[current])
        if report is None:
            break
        chain.append(report)
        current = report.parent
    return chain


def resolved_of(folder: RunFolder) -> Mapping[str, Any] | None:
    """The values of a run's file, as they were; None where they were not kept."""
    try:
        found = json.loads((folder.spec / RESOLVED).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def modifications(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Modification, ...]:
    """Every value that differs, by dotted key; lists of unequal length differ as a whole."""
    old, new = dict(_leaves(_compared(before))), dict(_leaves(_compared(after)))
    keys = [*new, *(key for key in old if key not in new)]
    return tuple(
        Modification(parameter=key, before=old.get(key), after=new.get(key))
        for key in keys
        if (key in old) != (key in new) or old.get(key) != new.get(key)
    )


def _compared(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a file that say what is done."""
    return {key: value for key, value in tree.items() if key != "experiment"}


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{key}.{index}")
    else:
        yield key, tree
