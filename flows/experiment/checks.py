"""Whether a run kept what its file promised: one small function for each kind of validation.

    check(deliverable, Evidence(results, materialize, folder))     # a DeliverableReport

Each function returns what is wrong, in words; nothing wrong is an empty list.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.experiment.contents import (
    differences,
    folded,
    html_headings,
    is_number,
    look_up,
    markdown_headings,
)
from flows.experiment.deliverables import (
    ContainsKeys,
    ContainsSections,
    Deliverable,
    Exists,
    ExistsAndLoadable,
    FilePromise,
    MatchesExpected,
    Operator,
    StatisticalTest,
    Threshold,
)
from flows.experiment.formats import check_loadable, read_data
from flows.experiment.record import DeliverableReport, DeliverableState
from flows.experiment.references import StepReference
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.errors import LabwrightError, nearest
from tasks.spec import Result

MAX_DIFFERENCES = 5

COMPARE: dict[Operator, Callable[[float, float], bool]] = {
    Operator.ABOVE: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.BELOW: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.EQUAL: operator.eq,
}


class Missing(ValueError):
    """There is nothing to look at."""


@dataclass(frozen=True)
class Evidence:
    """What a run left: results of its steps, and a way to their verified files."""

    results: Mapping[str, Result]
    materialize: Callable[[ArtifactRef], Path]
    folder: Path

    def value(self, reference: StepReference) -> Any:
        """What a reference names; `Missing` where its step has no result."""
        if reference.step not in self.results:
            raise Missing(f"step '{reference.step}' did not finish")
        try:
            found = reference.value(self.results)
        except ValueError as error:
            raise Missing(str(error)) from error
        if found is None:
            raise Missing(f"{reference} is empty: the step was not asked for it")
        return found

    def artifact(self, reference: StepReference) -> tuple[Path, str]:
        """The verified path of an artifact, and its name."""
        ref = self.value(reference)
        if not isinstance(ref, ArtifactRef):
            raise ValueError(f"{reference} is no artifact")
        return self.materialize(ref), ref.name

    def file(self, promise: FilePromise) -> tuple[Path, str]:
        """Where a promised file should be, and the name that tells its format."""
        root, name = self.folder, ""
        if promise.artifact is not None:
            root, name = self.artifact(promise.artifact)
        path = root
        if promise.path is not None:
            path, name = root / promise.path, promise.path
            beside = path.resolve()
            if promise.artifact is None and not beside.is_relative_to(self.folder.resolve()):
                raise ValueError(f"'{promise.path}' leads out of {self.folder}")
        if not path.exists():
            around = [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else []
            raise Missing(f"there is no '{name}'{nearest(path.name, around)}")
        return path, name


def check(deliverable: Deliverable, evidence: Evidence) -> DeliverableReport:
    """Look at one deliverable; never raises for what a run may leave behind."""
    path: Path | None = None
    try:
        if isinstance(deliverable, FilePromise) and (deliverable.artifact or deliverable.path):
            path, _ = evidence.file(deliverable)
        problems = _problems(deliverable, evidence)
        state = DeliverableState.UNMET if problems else DeliverableState.DELIVERED
    except Missing as error:
        problems, state = [str(error)], DeliverableState.MISSING
    except (ValueError, OSError, LabwrightError) as error:
        problems, state = [str(error)], DeliverableState.UNMET
    except Exception as error:  # noqa: BLE001  (contents that nobody foresaw keep no promise)
        words = f"cannot be checked: {type(error).__name__}: {error}"
        problems, state = [words], DeliverableState.UNMET
    return DeliverableReport(
        type=deliverable.type,
        validation=deliverable.validation,
        state=state,
        problems=tuple(problems),
        path=str(path) if path else None,
    )


def _problems(deliverable: Deliverable, evidence: Evidence) -> list[str]:
    match deliverable:
        case Exists():
            return exists(*evidence.file(deliverable))
        case ContainsKeys():
            return contains_keys(deliverable, read_data(*evidence.file(deliverable)))
        case ExistsAndLoadable():
            check_loadable(*evidence.file(deliverable), is_model=_is_model(deliverable, evidence))
            return []
        case MatchesExpected():
            return matches_expected(deliverable, evidence)
        case Threshold():
            return threshold(deliverable, evidence)
        case ContainsSections():
            return contains_sections(deliverable, *evidence.file(deliverable))
        case StatisticalTest():
            return statistical_test(deliverable, evidence)


def _is_model(promise: FilePromise, evidence: Evidence) -> bool:
    """Whether a model is promised: the file calls it one, or the step does."""
    if promise.type == ArtifactKind.MODEL:
        return True
    if promise.artifact is None or promise.path is not None:
        return False
    return evidence.value(promise.artifact).kind is ArtifactKind.MODEL


def exists(path: Path, name: str) -> list[str]:
    """A file with a byte in it, or a folder with a file in it."""
    if path.is_dir():
        return [] if any(p.is_file() for p in path.rglob("*")) else [f"'{name}' holds no file"]
    return [] if path.stat().st_size else [f"'{name}' is empty"]


def contains_keys(promise: ContainsKeys, data: Any) -> list[str]:
    """Every key that the data lacks."""
    found = []
    for key in promise.required_keys:
        try:
            look_up(data, key)
        except KeyError as error:
            found.append(f"key '{key}' is missing{error.args[0]}")
    return found


def matches_expected(promise: MatchesExpected, evidence: Evidence) -> list[str]:
    """The differences from the expected value or file, the first few of them."""
    path, name = evidence.file(promise)
    if promise.expected_file is None:
        expected = promise.expected
    else:
        reference = evidence.folder / promise.expected_file
        if not reference.is_file():
            raise Missing(f"there is no expected file '{promise.expected_file}'")
        if reference.suffix not in (".json", ".yaml", ".yml"):
            same = reference.read_bytes() == path.read_bytes()
            return [] if same else [f"'{name}' differs from '{promise.expected_file}'"]
        expected = read_data(reference, reference.name)
    found = differences(expected, read_data(path, name), promise.relative_tolerance, promise.subset)
    return found[:MAX_DIFFERENCES]


def threshold(promise: Threshold, evidence: Evidence) -> list[str]:
    """Nothing if the number is on the right side of its limit."""
    if isinstance(promise.metric, str):
        path, name = evidence.file(promise)
        try:
            metric = look_up(read_data(path, name), promise.metric)
        except KeyError as error:
            raise Missing(f"'{name}' has no metric '{promise.metric}'{error.args[0]}") from error
    else:
        metric = promise.metric
    left, right = _number(metric, evidence), _number(promise.value, evidence)
    if COMPARE[promise.operator](left, right):
        return []
    return [f"{promise.metric} is {left:g}, and not {promise.operator} {right:g}"]


def contains_sections(promise: ContainsSections, path: Path, name: str) -> list[str]:
    """Every promised heading that is not there; case and spaces do not count."""
    if path.is_dir():
        path, name = path / "index.html", "index.html"
    text = path.read_text(encoding="utf-8")
    is_html = Path(name).suffix.lower() in (".html", ".htm")
    headings = html_headings(text) if is_html else markdown_headings(text)
    known = {folded(heading): heading for heading in headings}
    return [
        f"section '{section}' is missing{nearest(section, headings)}"
        for section in promise.sections
        if folded(section) not in known
    ]


def statistical_test(promise: StatisticalTest, evidence: Evidence) -> list[str]:
    """Nothing if a paired permutation test supports the claim at its level."""
    from tasks.analyze.paired import sign_flip_p_value
    from tasks.analyze.rows import pair, samples_at
    from tasks.analyze.sign_flips import Alternative

    sides = []
    for reference in (promise.baseline, promise.variant):
        path, _ = evidence.artifact(reference)
        path = path / "samples.jsonl" if path.is_dir() else path
        try:
            samples = samples_at([path])
        except ValueError as error:
            raise ValueError(f"{reference}: {error}") from error
        keys = [
            key
            for key in samples
            if promise.task in (None, key[0]) and promise.metric in (None, key[1])
        ]
        if len(keys) != 1:
            known = ", ".join(f"{task}/{metric}" for task, metric in samples)
            raise ValueError(f"{len(keys)} metrics of {reference} fit; there are {known}")
        sides.append(samples[keys[0]])
    p_value = sign_flip_p_value(pair(*sides), Alternative(promise.alternative))
    if p_value <= promise.alpha:
        return []
    return [f"p = {p_value:.3g} is above alpha = {promise.alpha:g}: the claim is not supported"]


def _number(value: Any, evidence: Evidence) -> float:
    if isinstance(value, StepReference):
        value = evidence.value(value)
    if not is_number(value) or math.isnan(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
