"""Averages as a table for people: one line a node, indented as the tree is nested.

Console().print(group_table(result.groups))
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from tasks.evaluate.groups import GroupScore

INDENT = "  "


def group_table(groups: Iterable[GroupScore], title: str | None = None) -> Table:
    """Score and standard error of each node, what guessing scores, and why a score is absent."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("average")
    for column in ("score", "std. error", "before", "guessing", "items"):
        table.add_column(column, justify="right")
    table.add_column("")
    for node in groups:
        name = INDENT * node.depth + node.path.rpartition("/")[2]
        notes = [*(["below guessing, counted as 0"] if node.is_clamped else []), node.reason or ""]
        table.add_row(
            Text(name, style="bold" if node.is_group else ""),
            _number(node.value),
            _number(node.stderr),
            _number(node.score if node.random_score is not None else None),
            _number(node.random_score),
            "" if node.num_items is None else str(node.num_items),
            Text("; ".join(filter(None, notes)), style="dim"),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
