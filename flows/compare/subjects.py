"""What a run measured, read back from the store and verified; what is damaged is named.

subject = Subject.of(find_run("latest"))
subject.steps["evaluate"].record.provenance, subject.problems
pairs_of(baseline, other, {"evaluate_base": "evaluate_w8a8"})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.experiment import RunFolder, RunReport, all_runs, find_run
from flows.experiment.lineage import resolved_of
from flows.experiment.measured import MeasuredStep, measured_steps, read_items
from tasks.analyze.rows import Samples
from tasks.errors import LabwrightError, Problem, SpecError, StoreError, nearest
from tasks.evaluate.spec import EvaluateResult
from tasks.store import open_store


@dataclass(frozen=True)
class Subject:
    """A run with everything of it that can be compared."""

    report: RunReport
    resolved: Mapping[str, Any] | None
    steps: Mapping[str, MeasuredStep]
    samples: Mapping[str, Samples]  # of evaluate steps, by step
    problems: tuple[str, ...]

    @classmethod
    def of(cls, folder: RunFolder) -> Subject:
        """Read a run; raises `StoreError` only where nothing is known of it."""
        report = folder.read()
        if report is None:
            raise StoreError(f"{folder.path} holds no run.json")
        store = open_store()
        steps, lost = measured_steps(report, store)
        samples: dict[str, Samples] = {}
        for name, step in steps.items():
            if isinstance(step.result, EvaluateResult):
                try:
                    samples[name] = read_items(store, step.result)
                except (LabwrightError, ValueError) as error:
                    lost[name] = str(error)
        problems = [f"{name}: {reason}" for name, reason in lost.items()]
        resolved = resolved_of(folder)
        if resolved is None:
            problems.append("its resolved file was not kept: its values cannot be compared")
        return cls(report, resolved, steps, samples, tuple(problems))


@dataclass(frozen=True)
class Pair:
    """The same step in two runs; `other` may have another name there."""

    baseline: MeasuredStep
    other: MeasuredStep

    @property
    def name(self) -> str:
        names = dict.fromkeys((self.baseline.name, self.other.name))
        return " / ".join(names)

    @property
    def is_one_result(self) -> bool:
        """Whether both runs got the answer of one and the same computation."""
        return self.baseline.record == self.other.record


def find_runs(names: Sequence[str]) -> list[RunFolder]:
    """The runs of these names; `SpecError` with every name that is none, or stands twice."""
    problems: list[Problem] = []
    found: dict[str, RunFolder] = {}
    for name in names:
        try:
            run = find_run(name)
        except SpecError as error:
            known = [run.id[: max(1, len(name))] for run in all_runs()]
            close = nearest(name.upper(), known)
            problems += [replace(one, message=one.message + close) for one in error.problems]
            continue
        if run.id in found:
            problems.append(Problem(f"run {run.id} is named twice; give different runs"))
        found[run.id] = run
    if problems:
        raise SpecError(problems)
    return list(found.values())


def pairs_of(baseline: Subject, other: Subject, matches: Mapping[str, str]) -> Iterator[Pair]:
    """Steps of one kind and one name, or matched by the user, in the baseline's order."""
    for name, step in baseline.steps.items():
        found = other.steps.get(other_name(name, other, matches))
        if found is not None and found.kind == step.kind:
            yield Pair(step, found)


def other_name(name: str, other: Subject, matches: Mapping[str, str]) -> str:
    """What a step of the baseline is called in another run."""
    wanted = matches.get(name)
    return wanted if wanted in other.report.steps else name


def check_matches(subjects: Sequence[Subject], matches: Mapping[str, str]) -> None:
    """Refuse names that are no steps of these runs, all at once."""
    base, *others = subjects
    problems = []
    for name, wanted in matches.items():
        known = [step for other in others for step in other.report.steps]
        if name not in base.report.steps:
            problems.append(_unknown(name, base.report.steps, f"run {base.report.id}"))
        elif wanted not in known:
            problems.append(_unknown(wanted, known, "the runs compared with it"))
        else:
            kinds = {o.report.steps[wanted].kind for o in others if wanted in o.report.steps}
            kind = base.report.steps[name].kind
            if kind not in kinds:
                message = f"{name} is of kind {kind}, {wanted} of kind {', '.join(sorted(kinds))}"
                problems.append(Problem(message, "--match"))
    if problems:
        raise SpecError(problems)


def _unknown(name: str, valid: Sequence[str] | Mapping[str, Any], where: str) -> Problem:
    choices = nearest(name, valid) or f"; there are {', '.join(dict.fromkeys(valid))}"
    return Problem(f"{where}: there is no step '{name}'{choices}", "--match")
