"""The whole comparison of runs as one value: files, surroundings, results, in this order.

    found = compare_runs(find_runs(["01M7…", "latest"]), {"evaluate_base": "evaluate"})
    found.model_dump_json()

The first run is the baseline; p-values are corrected over all tests of all other runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from flows.compare.outcome import Correction
from flows.compare.results import Asked, rows_of
from flows.compare.rows import CONFIDENCE, Row, judged
from flows.compare.subjects import Subject, check_matches, other_name, pairs_of
from flows.compare.surroundings import Difference, differences
from flows.experiment import RunFolder
from flows.experiment.lineage import modifications
from flows.experiment.record import Modification, RunStatus
from tasks.spec import Frozen


class RunHead(Frozen):
    """Which run it is."""

    id: str = Field(description="ULID.")
    name: str = Field(description="Name of the experiment.")
    status: RunStatus = Field(description="How it stands.")
    file: str = Field(description="The experiment file.")
    problems: tuple[str, ...] = Field(description="What of it could not be read.")


class RunDifference(Frozen):
    """A run against the baseline."""

    run: RunHead = Field(description="The run.")
    modifications: tuple[Modification, ...] = Field(description="Values that differ in the files.")
    surroundings: tuple[Difference, ...] = Field(description="Circumstances that differ.")
    rows: tuple[Row, ...] = Field(description="Every number that one of the two has.")
    only_in_baseline: tuple[str, ...] = Field(description="Steps without a counterpart.")
    only_in_other: tuple[str, ...] = Field(description="The same of the other run.")


class RunComparison(Frozen):
    """Runs against the first of them."""

    baseline: RunHead = Field(description="The first run.")
    confidence: float = Field(description="Nominal coverage of each interval, uncorrected.")
    correction: Correction = Field(description="How p-values were corrected.")
    margin: float | None = Field(description="Share that 'no worse' leaves; absent if not asked.")
    num_tests: int = Field(description="p-values that were corrected together.")
    others: tuple[RunDifference, ...] = Field(description="The other runs, in the order given.")

    @property
    def problems(self) -> list[str]:
        """What could not be read of any of the runs."""
        heads = (self.baseline, *(other.run for other in self.others))
        return [f"run {head.id}: {problem}" for head in heads for problem in head.problems]


def compare_runs(
    runs: Sequence[RunFolder],
    matches: Mapping[str, str],
    *,
    correction: Correction = Correction.HOLM,
    margin: float | None = None,
) -> RunComparison:
    """Compare with the first; `matches` names a step of it and the one that stands for it.

    With a margin it is also asked whether each number is worse by less than that share.
    """
    base, *others = subjects = [Subject.of(run) for run in runs]
    check_matches(subjects, matches)
    found = [_difference(base, other, matches, Asked(margin=margin)) for other in others]
    rows = iter(judged([row for difference in found for row in difference.rows], correction))
    whole = tuple(
        difference.model_copy(update={"rows": tuple(itertools.islice(rows, len(difference.rows)))})
        for difference in found
    )
    num_tests = sum(row.p_corrected is not None for one in whole for row in one.rows)
    return RunComparison(
        baseline=_head(base),
        confidence=CONFIDENCE,
        correction=correction,
        margin=margin,
        num_tests=num_tests,
        others=whole,
    )


def _difference(
    base: Subject, other: Subject, matches: Mapping[str, str], asked: Asked
) -> RunDifference:
    pairs = list(pairs_of(base, other, matches))
    names = {other_name(name, other, matches): name for name in base.report.steps}
    after = _renamed(other.resolved, names) if other.resolved is not None else None
    both = base.resolved is not None and after is not None
    paired = {pair.other.name for pair in pairs}
    return RunDifference(
        run=_head(other),
        modifications=modifications(base.resolved or {}, after or {}) if both else (),
        surroundings=differences(pairs),
        rows=tuple(
            row for pair in pairs for row in rows_of(pair, base.samples, other.samples, asked)
        ),
        only_in_baseline=tuple(_unpaired(base.steps, {pair.baseline.name for pair in pairs})),
        only_in_other=tuple(_unpaired(other.steps, paired)),
    )


def _unpaired(steps: Mapping[str, Any], paired: set[str]) -> list[str]:
    """Steps with a result that nothing is held against."""
    return [name for name in steps if name not in paired]


def _head(subject: Subject) -> RunHead:
    report = subject.report
    return RunHead(
        id=report.id,
        name=report.name,
        status=report.status,
        file=report.file,
        problems=subject.problems,
    )


def _renamed(tree: Any, names: Mapping[str, str]) -> Any:
    """A resolved file whose steps have the names that the baseline gives them."""
    if isinstance(tree, Mapping) and isinstance(tree.get("steps"), Mapping):
        steps = {names.get(name, name): value for name, value in tree["steps"].items()}
        return {key: _referring({**tree, "steps": steps}[key], names) for key in tree}
    return tree


def _referring(tree: Any, names: Mapping[str, str]) -> Any:
    """References to renamed steps, under their new names."""
    if isinstance(tree, Mapping):
        return {key: _referring(value, names) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_referring(value, names) for value in tree]
    if isinstance(tree, str) and "${steps." in tree:
        for old, new in names.items():
            if old != new:
                tree = tree.replace(f"${{steps.{old}.", f"${{steps.{new}.")
    return tree
