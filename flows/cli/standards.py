"""`labwright standards list|show`: what there is, and each value of one with its source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli.fields import default_words
from flows.cli.terminal import stdout_console
from tasks.documents import Mark
from tasks.registry import step_of
from tasks.standards import Standard, StandardKind, every_standard, find
from tasks.standards.use import KEYS, marks_in, resolve

STEPS = {StandardKind.EVALUATION: "evaluate", StandardKind.BENCHMARKING: "benchmark"}
INPUTS = ("model", "task_folder", "mirror", "hardware", "occasion")  # of what, where and when


class Row(NamedTuple):
    """One value and where it comes from."""

    key: str
    value: str
    source: str


def print_standards(as_json: bool) -> None:
    standards = every_standard()
    if as_json:
        fields = {"kind", "name", "version", "description", "source"}
        print(json.dumps([item.model_dump(mode="json", include=fields) for item in standards]))
        return
    table = Table("kind", "name", "version", "what it does", box=None)
    for item in standards:
        table.add_row(item.kind.value, item.name, str(item.version), item.description)
    stdout_console().print(table)


def print_standard(name: str) -> None:
    """Every standard of that name, resolved: its own values, those it names, and defaults."""
    console = stdout_console()
    for item in find(name):
        _print(console, item)


def _print(console: Console, standard: Standard) -> None:
    title = f"{standard.kind} standard {standard.name}, version {standard.version}"
    console.print(Text(title, style="bold"))
    for text in (standard.description, standard.source, str(standard.path)):
        console.print(Text(text.strip()), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in Row._fields:
        table.add_column(column, overflow="fold")
    for row in rows(standard):
        table.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(table)
    console.print()


def rows(standard: Standard) -> Iterator[Row]:
    """Every value of a standard, in the order of its file, then what applies where it is silent."""
    yield from _own_rows(standard.content, marks_in(standard), standard.path.name)
    step = STEPS.get(standard.kind)
    if step is not None:
        for name, info in step_of(step).spec_type.model_fields.items():
            if name not in (*standard.content, *KEYS, *INPUTS):
                words = default_words(info).replace("see below", "its defaults")
                yield Row(name, words, f"default of {step}")
    for place, kind, named in _named_standards(standard):
        content = resolve(kind, named, standard.path.parent)
        for row in _own_rows(content.values, content.marks, f"{named}.yaml"):
            yield row._replace(key=f"{place}.{row.key}")


def _named_standards(standard: Standard) -> Iterator[tuple[str, StandardKind, str]]:
    """The standards that a pipeline's steps name."""
    if standard.kind is not StandardKind.PIPELINE:
        return
    for name, step in standard.content["steps"].items():
        for field, kind in (
            ("recipe", StandardKind.COMPRESSION),
            ("standard", StandardKind.EVALUATION),
        ):
            if isinstance(step.get(field), str):
                yield f"steps.{name}.{field}", kind, step[field]


def _own_rows(content: Mapping[str, Any], marks: Mapping[str, Mark], file: str) -> Iterator[Row]:
    for key, value in content.items():
        yield from _rows_of(key, value, marks, file)


def _rows_of(key: str, value: Any, marks: Mapping[str, Mark], file: str) -> Iterator[Row]:
    """One row for what stands in one line of the file, else rows for its parts."""
    parts = list(_parts(value))
    mark = marks.get(key)
    lines = {marks[f"{key}.{part}"].line for part, _ in parts if f"{key}.{part}" in marks}
    is_plain = not any(isinstance(item, Mapping | list) for _, item in parts)
    if not parts or (is_plain and lines <= {mark.line if mark else None}):
        where = f"{Path(mark.source).name}:{mark.line}" if mark else file
        yield Row(key, _words(value), where)
        return
    for part, item in parts:
        yield from _rows_of(f"{key}.{part}", item, marks, file)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _words(value: Any) -> str:
    """As YAML writes it in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_words(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_words(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)
