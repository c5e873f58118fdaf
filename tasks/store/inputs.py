"""Inputs by content: every local path and package file that a spec names becomes an artifact.

    resolved = resolve_inputs(spec, store)               # hashed, kept in the store
    resolved = resolve_inputs(spec, store, keep=False)   # only hashed: a plan writes nothing

Where a file lies is gone after that, what is in it stays. A pattern with wildcards gives a folder,
named from the first wildcard on; one without gives the file itself.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel

from infra import pins
from tasks.artifacts import (
    ArtifactKind,
    ArtifactRef,
    LocalPath,
    PackageFiles,
    describe,
    folder_ref,
    manifest_of,
)
from tasks.errors import Problem, SpecError, nearest
from tasks.spec import Spec
from tasks.store.base import Store

S = TypeVar("S", bound=Spec)
WILDCARDS = frozenset("*?[")


def resolve_inputs(spec: S, store: Store, keep: bool = True) -> S:
    """The spec with ArtifactRefs alone; SpecError names every input that cannot be read."""
    resolver = _Resolver(store, keep, type(spec).__name__)
    resolved: S = resolver.resolve(spec, "")
    if resolver.problems:
        raise SpecError(resolver.problems)
    return resolved


class _Resolver:
    """Walks a spec and collects what is wrong with its inputs."""

    def __init__(self, store: Store, keep: bool, source: str):
        self.problems: list[Problem] = []
        self._store = store
        self._keep = keep
        self._source = source

    def resolve(self, value: Any, key: str) -> Any:
        """The value with its inputs replaced; the very same object where there are none."""
        if isinstance(value, LocalPath | PackageFiles):
            return self._resolve_input(value, key)
        if isinstance(value, ArtifactRef):
            return value
        if isinstance(value, BaseModel):
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            changed = self._changed(fields, key)
            return value.model_copy(update=changed) if changed else value
        if isinstance(value, Mapping):
            changed = self._changed(value, key)
            return {**value, **changed} if changed else value
        if isinstance(value, list | tuple | set | frozenset):
            items = [self.resolve(item, f"{key}[{n}]") for n, item in enumerate(value)]
            is_same = all(new is old for new, old in zip(items, value, strict=True))
            return value if is_same else type(value)(items)
        return value

    def _changed(self, fields: Mapping[Any, Any], key: str) -> dict[Any, Any]:
        resolved = {
            name: self.resolve(value, f"{key}.{name}" if key else str(name))
            for name, value in fields.items()
        }
        return {name: value for name, value in resolved.items() if value is not fields[name]}

    def _resolve_input(self, value: LocalPath | PackageFiles, key: str) -> Any:
        try:
            if isinstance(value, LocalPath):
                return self._local(value.path)
            return self._packaged(value)
        except (ValueError, OSError) as error:
            self.problems.append(Problem(_words(error, value), source=self._source, key=key))
            return value

    def _local(self, path: Path) -> ArtifactRef:
        os.stat(path)  # OSError in words for what is missing or barred
        kind = ArtifactKind.FOLDER if path.is_dir() else ArtifactKind.FILE
        reference = describe(path, kind, path.name)
        return self._store.put(path, kind, path.name) if self._keep else reference

    def _packaged(self, wanted: PackageFiles) -> ArtifactRef:
        files = package_files(wanted)
        if not WILDCARDS.intersection(wanted.pattern):
            return self._local(next(iter(files.values())))
        if self._keep:
            return self._store.put_files(files, ArtifactKind.FOLDER, wanted.distribution)
        return folder_ref(manifest_of(files), ArtifactKind.FOLDER, wanted.distribution)


def package_files(wanted: PackageFiles) -> dict[str, Path]:
    """Relative path to file of what a pattern matches; ValueError says what there is instead.

    `*` and `?` stay within one folder, `**` stands for any number of folders.
    """
    try:
        distribution = importlib.metadata.distribution(wanted.distribution)
    except importlib.metadata.PackageNotFoundError:
        found = (str(item.metadata["Name"]) for item in importlib.metadata.distributions())
        own = pins.normalised(wanted.distribution)
        names = {name for name in found if pins.normalised(name) != own}  # half removed
        hint = nearest(wanted.distribution, names)
        raise ValueError(
            f"the package '{wanted.distribution}' is not installed"
            + (hint or f"; type `{_how_to_install(wanted.distribution)}`")
        ) from None
    listed = [PurePosixPath(path) for path in distribution.files or ()]
    pattern = PurePosixPath(wanted.pattern).parts
    matching = [path for path in listed if ".." not in path.parts and _matches(path.parts, pattern)]
    if not matching:
        hint = nearest(wanted.pattern, [str(path) for path in listed])
        raise ValueError(
            f"no file of the package '{wanted.distribution}' matches '{wanted.pattern}'{hint}"
        )
    fixed = next((n for n, part in enumerate(pattern) if WILDCARDS.intersection(part)), 0)
    return {
        PurePosixPath(*path.parts[fixed:]).as_posix(): Path(str(distribution.locate_file(path)))
        for path in matching
    }


def _how_to_install(distribution: str) -> str:
    """Packages that examples/full needs are a target of the Makefile's: pip would add much more."""
    of_full = pins.read_pins(pins.LOCKS / "full.txt")
    return (
        "make full" if pins.normalised(distribution) in of_full else f"pip install {distribution}"
    )


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    is_match = bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0])
    return is_match and _matches(parts[1:], pattern[1:])


def _words(error: Exception, value: LocalPath | PackageFiles) -> str:
    if not isinstance(error, OSError):
        return str(error)
    place = error.filename or (value.path if isinstance(value, LocalPath) else value.distribution)
    return f"cannot read {os.fsdecode(str(place))}: {error.strerror or error}"
