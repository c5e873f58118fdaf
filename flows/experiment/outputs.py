"""What the steps of a run made, by the names that a file calls it by, and its way out of the store.

    outputs_of(result)                                   # {"model": ArtifactRef, "curve": …}
    export(refs, Path("out"), open_store())              # out/model/…, out/curve.jsonl

An export is whole or not at all, verified on its way, and overwrites nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.experiment.record import RunReport
from tasks.artifacts import ArtifactRef, describe
from tasks.errors import Corrupted, SpecError, StoreError, nearest
from tasks.registry import step_of
from tasks.spec import Result
from tasks.store.base import Record, Store


def outputs_of(result: Result) -> dict[str, ArtifactRef]:
    """Every artifact of a result by its dotted name, as `${steps.NAME.…}` spells it."""
    return {".".join(place): ref for place, ref in _artifacts(result)}


def _artifacts(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    parts: Any = ()
    if isinstance(value, ArtifactRef):
        yield place, value
    elif isinstance(value, BaseModel):
        parts = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for name, inner in parts:
        yield from _artifacts(inner, (*place, str(name)))


def find_outputs(report: RunReport, what: str, store: Store) -> dict[str, ArtifactRef]:
    """The outputs that `STEP` or `STEP.FIELD` names; `SpecError` says what there is instead."""
    step, _, field = _plain(what).partition(".")
    if step not in report.steps:
        known = nearest(step, report.steps) or f"; there are {', '.join(report.steps)}"
        raise SpecError(f"run {report.id} has no step '{step}'{known}")
    record = record_of(report, step, store)
    if record is None:
        state = report.steps[step].state
        raise SpecError(f"step '{step}' of run {report.id} has no result: it is {state.value}")
    outputs = outputs_of(step_of(record.step).result(record))
    if not field:
        if not outputs:
            raise SpecError(f"step '{step}' leaves no files; its numbers: labwright show")
        return outputs
    if field not in outputs:
        known = nearest(field, outputs) or f"; there are {', '.join(outputs) or 'none'}"
        raise SpecError(f"step '{step}' has no output '{field}'{known}")
    return {field: outputs[field]}


def is_whole_step(what: str) -> bool:
    return "." not in _plain(what)


def _plain(what: str) -> str:
    """`train.model` of `${steps.train.model}`, which is accepted as well."""
    return what.removeprefix("${").removesuffix("}").removeprefix("steps.")


def record_of(report: RunReport, step: str, store: Store) -> Record | None:
    """What is kept of a step of a run; None where it has no result."""
    found = report.steps[step]
    if found.identity is None or not found.state.has_result:
        return None
    return store.read_record(found.kind, found.identity)


def export(outputs: Mapping[str, ArtifactRef], target: Path, store: Store) -> None:
    """Copy each output into a new folder, under its name; raises `StoreError`, `Corrupted`."""
    with _staged(target) as staging:
        staging.mkdir()
        for field, ref in outputs.items():
            suffix = "" if ref.is_folder else Path(ref.name).suffix
            _copy(ref, staging / f"{field}{suffix}", store)


def export_one(ref: ArtifactRef, target: Path, store: Store) -> None:
    """Copy one output to a new file or folder of this very name; raises as `export` does."""
    with _staged(target) as staging:
        _copy(ref, staging, store)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A path beside the target that becomes it once the block has ended well."""
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise SpecError(f"{target} exists already; name another with --to")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            staging = Path(folder) / "whole"
            yield staging
            if staging.is_dir():
                staging.rename(target)  # the kernel refuses it over what is not empty
            else:
                os.link(staging, target)  # which a file of that name would not survive otherwise
    except OSError as error:
        where = error.filename or target
        raise StoreError(f"cannot export to {target}: {error.strerror} ({where})") from error


def _copy(ref: ArtifactRef, target: Path, store: Store) -> None:
    """The bytes that the digest promises, writable by their new owner."""
    source = store.materialize(ref)
    if ref.is_folder:
        for entry in store.manifest(ref).files:
            _copy_file(source / entry.path, target / entry.path, entry.executable)
        target.mkdir(exist_ok=True)
    else:
        _copy_file(source, target, is_executable=False)
    if describe(target, ref.kind, ref.name).digest != ref.digest:
        raise Corrupted(str(source), "is not what its digest says")


def _copy_file(source: Path, target: Path, is_executable: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if is_executable:
        target.chmod(target.stat().st_mode | 0o111)
    with target.open("rb") as file:
        os.fsync(file.fileno())
