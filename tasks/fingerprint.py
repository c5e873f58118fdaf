"""The code of a body as one digest: its module and every first-party module that it may import.

Found by reading, not by importing: `import` statements anywhere in a file, and texts that name a
module (`python -m tasks.benchmark.client`), except in a package's `__init__`, which counts too.
First-party is the package `tasks` and the package of the body itself. Imports whose target is
computed at run time are refused, as nobody could say which code they bring in.

    code_fingerprint("tasks.train.body")      # the same digest in every checkout, on every Python

A page that a body fills in is code of its too: what lies in the folder `templates` of a package
counts with that package, byte by byte.

MACHINERY does not count: it carries specs in and results out, and a change of it makes no other
numbers. What bodies compute with must not be listed there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.errors import Problem, SpecError
from tasks.syntax import Import, Source, read_source

TEMPLATES = "templates"
MACHINERY = (
    # Values on their way in and out: what they carry stands in the spec, or is verified by digest.
    "tasks.artifacts",
    "tasks.body",
    "tasks.canonical",
    "tasks.digests",
    "tasks.documents",
    "tasks.errors",
    "tasks.annotations",
    "tasks.problems",
    "tasks.identity",
    "tasks.settings",
    "tasks.spec",
    "tasks.standards",
    "tasks.store",
    # How a body is found, started, watched and ended.
    "tasks.attempt",
    "tasks.attempt_logs",
    "tasks.body_environment",
    "tasks.body_log",
    "tasks.descendants",
    "tasks.environments",
    "tasks.fingerprint",
    "tasks.flock",
    "tasks.gpus",
    "tasks.host",
    "tasks.memory",
    "tasks.observer",
    "tasks.prefect_task",
    "tasks.process",
    "tasks.provenance",
    "tasks.registry",
    "tasks.step",
    "tasks.supervisor",
    "tasks.syntax",
    "tasks.tail",
)


def code_fingerprint(module: str, root: Path | None = None) -> str:
    """sha256 over the static import closure of a module; SpecError where it cannot be known.

    `root` is the folder that holds the package; None is where this process would import it from.
    """
    sources = closure(module, root)
    digests = {name: source.digest for name, source in sources.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def closure(module: str, root: Path | None = None) -> dict[str, Source]:
    """Every first-party module that a module may import, itself and its packages included.

    Remembered until one of its files, or a folder that could hold a module of it, changes.
    """
    known = _closures.get((module, root))
    if known is not None and known.snapshot == _snapshot(known.snapshot):
        return known.sources
    looked_at: set[Path] = set()
    sources = _walk(module, root, looked_at)
    _closures[module, root] = _Closure(sources, _snapshot(looked_at))
    return sources


class _Closure(NamedTuple):
    sources: dict[str, Source]
    snapshot: dict[Path, tuple[int, int]]


_closures: dict[tuple[str, Path | None], _Closure] = {}


def _snapshot(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """mtime and size of files and folders, as far as they exist."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


def _walk(module: str, root: Path | None, looked_at: set[Path]) -> dict[str, Source]:
    packages = {"tasks", module.partition(".")[0]}
    found: dict[str, Source] = {}
    seen: set[str] = set()
    pending = _with_parents(module)
    while pending:
        name = pending.pop()
        if name in seen or is_machinery(name):
            continue
        seen.add(name)
        looked_at.update(base.parent for base in _candidates(name, root))
        path = _locate(name, root)
        if path is None:
            if name == module:
                raise SpecError(f"body '{module}': there is no such module")
            continue
        source = _read(path)
        looked_at.add(path)
        found[name] = source
        if path.name == "__init__.py":
            templates = path.parent / TEMPLATES
            looked_at.add(templates)
            for template in sorted(templates.rglob("*")):
                looked_at.add(template)
                if template.is_file():
                    found[f"{name}:{template.relative_to(templates)}"] = _read_template(template)
        for target in _named(name, path, source, root):
            if target.partition(".")[0] in packages:
                pending.extend(_with_parents(target))
    return found


def is_machinery(module: str) -> bool:
    """Whether it is left out of fingerprints."""
    return any(module == name or module.startswith(name + ".") for name in MACHINERY)


def _named(name: str, path: Path, source: Source, root: Path | None) -> Iterator[str]:
    """Absolute names of all that a module may import or run; those in `tasks` must exist."""
    for line, code in source.unknown_imports:
        message = f"'{code}' imports what only a run can tell; name the module in the code"
        raise SpecError([Problem(message, source=str(path), line=line)])
    is_package = path.name == "__init__.py"
    if not is_package:  # those say which body a step has, and run nothing
        yield from source.strings
    package = name if is_package else name.rpartition(".")[0]
    for statement in source.imports:
        target = _absolute(statement, package)
        yield target
        yield from (f"{target}.{item}" for item in statement.names)
        if target.partition(".")[0] == "tasks" and not is_machinery(target):
            _require(target, path, statement.line, root)


def _absolute(statement: Import, package: str) -> str:
    if statement.level == 0:
        return statement.module
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, statement.module] if statement.module else base)


def _require(target: str, path: Path, line: int, root: Path | None) -> None:
    if _locate(target, root) is None and not _is_folder(target, root):
        message = f"imports {target}, which does not exist"
        raise SpecError([Problem(message, source=str(path), line=line)])


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _locate(module: str, root: Path | None) -> Path | None:
    """The file of a module, or None; a package stands before a module of the same name."""
    for base in _candidates(module, root):
        for path in (base / "__init__.py", base.with_name(base.name + ".py")):
            if path.is_file():
                return path
    return None


def _is_folder(module: str, root: Path | None) -> bool:
    return any(base.is_dir() for base in _candidates(module, root))


def _candidates(module: str, root: Path | None) -> list[Path]:
    top, *rest = module.split(".")
    folders = _package_folders(top) if root is None else (root / top,)
    return [folder.joinpath(*rest) for folder in folders]


def _package_folders(top: str) -> tuple[Path, ...]:
    if top == "tasks":
        return (Path(__file__).parent,)
    spec = importlib.util.find_spec(top)
    if spec is None:
        return ()
    if spec.submodule_search_locations is None:
        return (Path(spec.origin).with_suffix(""),) if spec.origin else ()
    return tuple(Path(place) for place in spec.submodule_search_locations)


def _read_template(path: Path) -> Source:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(digest=digest, imports=(), strings=frozenset(), unknown_imports=())


def _read(path: Path) -> Source:
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, mtime_ns: int, size_bytes: int) -> Source:  # noqa: ARG001 - they key the memo
    try:
        return read_source(path.read_bytes())
    except SyntaxError as error:
        raise SpecError([Problem(error.msg, source=str(path), line=error.lineno)]) from error
