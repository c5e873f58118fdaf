"""A folder of lm-eval task files, read without lm-eval: which names it defines, what is wrong.

Task YAML has one tag of its own, `!function module.name`, which lm-eval resolves by importing a
module beside the file, and metrics of Hugging Face's evaluate, which are programs too; here both
stay text, and a folder that brings such code is told to say so. What a file includes is read with
it, whatever its suffix.

    problems_of(Path("tasks"), ("heldout_txt",), has_other_data=False, allow_code=False)
    # ["no task 'heldout_txt' in tasks; did you mean 'heldout_text'?"]

Paths inside a task file are relative to the folder: `working_folder` lays task folder and mirror
out as one, and the body works there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tasks.errors import nearest


class TaskFile(NamedTuple):
    """What one YAML file of the folder defines."""

    path: Path
    name: str
    tags: tuple[str, ...]
    members: tuple[str, ...]  # of a group: names of its tasks
    has_code: bool


class _TaskLoader(yaml.SafeLoader):
    """Plain data only; `!function` becomes a marker, every other tag is refused."""


_CODE_INCLUDED = "(included code)"  # no key of lm-eval's


class _Code(str):
    """`module.name`, as a task file names its Python code."""


def _read_code(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> _Code:
    return _Code(loader.construct_scalar(node))


_TaskLoader.add_constructor("!function", _read_code)


def read_task_files(folder: Path) -> list[TaskFile]:
    """Every task and group that the folder's `*.yaml` files define; ValueError names a bad file.

    Files without `task` or `group` are templates that others include.
    """
    return [
        task_file
        for path in sorted(folder.rglob("*.yaml"))
        for task_file in _definitions(path, folder)
    ]


def _definitions(path: Path, folder: Path) -> Iterator[TaskFile]:
    document = _read_merged(path, folder, set())
    has_code = _has_code(document)
    tags = _names(document.get("tag"))
    if "group" in document:
        yield TaskFile(path, document["group"], tags, _names(document.get("task")), has_code)
    elif isinstance(document.get("task"), str):
        yield TaskFile(path, document["task"], tags, (), has_code)
    elif has_code:
        yield TaskFile(path, f"({path.name})", (), (), has_code)


def _read_merged(path: Path, folder: Path, seen: set[Path]) -> dict[str, Any]:
    """A file with what it includes, merged as lm-eval does it; all of it lies in the folder."""
    name = path.relative_to(folder)
    if path in seen:
        raise ValueError(f"{name} is included a second time")
    seen.add(path)
    document = _read(path, name)
    included = document.pop("include", [])
    merged: dict[str, Any] = {}
    for other in included if isinstance(included, list) else [included]:
        place = Path(os.path.normpath(path.parent / str(other)))
        if not place.is_relative_to(folder):
            raise ValueError(f"{name} includes {other}, which is not in the task folder")
        if not place.is_file():
            raise ValueError(f"{name} includes {other}, which is not there")
        inherited = _read_merged(place, folder, seen)
        if _has_code(inherited):  # is imported even where the file that includes it overrides it
            merged[_CODE_INCLUDED] = True
        merged.update((key, value) for key, value in inherited.items() if key != "task_list")
    return {**merged, **document}


def _read(path: Path, name: Path) -> dict[str, Any]:
    loader = _TaskLoader(path.read_text(encoding="utf-8"))
    try:
        document = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else str(name)
        raise ValueError(f"{place} is not a task file: {error.problem}") from error
    finally:
        loader.dispose()
    if not isinstance(document, dict):
        raise ValueError(f"{name} is not a task file: it holds no mapping")
    return document


def _has_code(document: dict[str, Any]) -> bool:
    """Whether lm-eval would import something that is not its own to use this."""
    return (
        not document.keys().isdisjoint({"class", _CODE_INCLUDED})
        or any(isinstance(leaf, _Code) for leaf in _leaves(document))
        or any(_is_program(metric) for metric in _metrics(document))
    )


def _is_program(metric: dict[str, Any]) -> bool:
    """A metric of Hugging Face's evaluate: a Python file beside the tasks, or one from the hub."""
    return bool(metric.get("hf_evaluate")) or not str(metric.get("metric")).isidentifier()


def _metrics(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a key `metric`, in members of groups too."""
    if isinstance(value, dict):
        if "metric" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _metrics(item)


def _names(value: Any) -> tuple[str, ...]:
    """Names in `tag:` or a group's `task:`, given as one string or a list of strings or tasks."""
    values = value if isinstance(value, list) else [value]
    names = (item.get("task") if isinstance(item, dict) else item for item in values)
    return tuple(name for name in names if isinstance(name, str))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def names_elsewhere(files: Iterable[TaskFile], names: Iterable[str]) -> list[str]:
    """Those names, members of groups included, that the files do not define."""
    members = {file.name: file.members for file in files}
    known = set(members) | {tag for file in files for tag in file.tags}
    missing, seen, waiting = [], set[str](), list(names)
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        waiting.extend(members.get(name, ()))
        if name not in known:
            missing.append(name)
    return missing


def problems_of(
    folder: Path, names: Iterable[str], *, has_other_data: bool, allow_code: bool
) -> list[str]:
    """What keeps these tasks from running out of this folder, in words.

    With other data at hand (a mirror, the hub) a name may also be one of lm-eval's own tasks.
    """
    if not folder.is_dir():
        return [f"task_folder is not a folder: {folder}"]
    try:
        files = read_task_files(folder)
    except ValueError as error:
        return [f"{folder}: {error}"]
    problems = []
    if not files:
        problems.append(f"no task files (*.yaml) in {folder}")
    elif not has_other_data:
        known = sorted({name for file in files for name in (file.name, *file.tags)})
        problems += [
            f"no task '{name}' in {folder}{nearest(name, known) or '; it has ' + ', '.join(known)}"
            for name in names_elsewhere(files, names)
        ]
    code = [file.path.name for file in files if file.has_code]
    if code and not allow_code:
        problems.append(
            f"{', '.join(code)} in {folder} runs Python code of its own: "
            "read it, then set allow_task_code: true"
        )
    return problems


def own_copy(folder: Path, out: Path) -> Path:
    """The folder's files as files of their own.

    The store lays folders out as links, and lm-eval looks for what a file includes or imports
    beside the place that the link leads to.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = out / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return out


def working_folder(out: Path, sources: Iterable[Path]) -> Path:
    """A folder in which the entries of all sources lie side by side, as links.

    lm-eval looks up `dataset_path: openai/gsm8k` and `data_files: items.jsonl` from here. An entry
    that two sources have is a ValueError.
    """
    out.mkdir(parents=True)
    for source in sources:
        for entry in sorted(source.iterdir()):
            link = out / entry.name
            if link.is_symlink():
                raise ValueError(
                    f"'{entry.name}' is both in the task folder and in the mirror: rename one"
                )
            link.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    return out
