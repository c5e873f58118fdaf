"""`labwright standards list|show`."""

from __future__ import annotations

import json

from rich.table import Table

from flows.cli.terminal import stdout_console
from tasks.standards import every_standard, find


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
    """Every standard of that name, as its file spells it."""
    for item in find(name):
        print(f"# {item.path}")
        print(item.path.read_text(encoding="utf-8").rstrip())
