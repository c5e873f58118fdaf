"""Whether what a run read is still there as it was: by digest, before anything runs.

    changes = changes_since(experiment, originals, open_store())
    # ("steps.data.text.source: corpus/ has other content (3f2a… then, 91bc… now)",)

Beside files, a default that is another now (the kind of device, a standard's content) shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.compare.numbers import is_reference
from flows.compare.surroundings import in_short
from flows.experiment import Experiment
from flows.experiment.measured import MeasuredStep
from flows.experiment.sound import ExperimentStep
from tasks.artifacts import LocalPath, PackageFiles
from tasks.errors import Problem, SpecError
from tasks.spec import Spec
from tasks.store import Store
from tasks.store.inputs import resolve_inputs

OCCASION = "occasion"  # tells runs apart, where nothing else does


def changes_since(
    experiment: Experiment, originals: Mapping[str, MeasuredStep], store: Store
) -> tuple[str, ...]:
    """What a step would be given that is not what it was given; `SpecError` for what is gone."""
    results = {name: original.result for name, original in originals.items()}
    changes: list[str] = []
    problems: list[Problem] = []
    for name, original in originals.items():
        step = experiment.steps[name]
        if any(upstream not in results for upstream in step.upstream):
            continue  # what it was given cannot be read any more
        try:
            spec = step.spec(results)
            now = resolve_inputs(spec, store, keep=False)
        except SpecError as error:
            problems += error.problems
            continue
        changes += _changes(f"steps.{name}", spec, now, _as_recorded(step, original))
    if problems:
        raise SpecError(problems)
    return tuple(changes)


def _as_recorded(step: ExperimentStep, original: MeasuredStep) -> Mapping[str, Any]:
    """The spec of the record, with the defaults of fields that are younger than it."""
    try:
        spec: Spec = step.step.spec_type.model_validate(original.record.spec)
    except ValidationError:
        return original.record.spec  # of a time when specs were others: every field shows
    return spec.model_dump(mode="json")


def _changes(step: str, spec: Spec, now: Spec, before: Mapping[str, Any]) -> Iterator[str]:
    sources = dict(_sources(spec))
    old, new = dict(_leaves(before)), dict(_leaves(now.model_dump(mode="json")))
    for key in dict.fromkeys((*new, *old)):
        if old.get(key) == new.get(key) or key == OCCASION:
            continue
        then, today = in_short(old.get(key)), in_short(new.get(key))
        if key in sources:
            yield f"{step}.{key}: {sources[key]} has other content ({then} then, {today} now)"
        else:
            yield f"{step}.{key}: was {then}, is {today}"


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key; an artifact is its digest, whatever it is called."""
    if is_reference(tree):
        yield key, tree["digest"]
        return
    parts = tree.items() if isinstance(tree, Mapping) else _numbered(tree)
    if not parts:
        yield key, tree
    for part, value in parts:
        yield from _leaves(value, f"{key}.{part}" if key else str(part))


def _sources(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Where the inputs lie that are no artifacts, by dotted key."""
    if isinstance(tree, LocalPath):
        yield key, str(tree.path)
        return
    if isinstance(tree, PackageFiles):
        yield key, f"package:{tree.distribution}/{tree.pattern}"
        return
    if isinstance(tree, BaseModel):
        parts: Any = [(name, getattr(tree, name)) for name in type(tree).model_fields]
    else:
        parts = tree.items() if isinstance(tree, Mapping) else _numbered(tree)
    for part, value in parts:
        yield from _sources(value, f"{key}.{part}" if key else str(part))


def _numbered(tree: Any) -> list[tuple[int, Any]]:
    return list(enumerate(tree)) if isinstance(tree, list | tuple) else []
