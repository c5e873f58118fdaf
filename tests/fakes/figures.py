"""Figures that tests measured, in one table at the end of the session.

    def test_cost(figure: Figure) -> None:
        figure("cached step over a bare task", "3.8 ms", aim="at most 20 ms", ratio=1.8)

A figure fails no test: machines differ, and a busy one is slow.
"""

from __future__ import annotations

from typing import Protocol

import pytest

_ROWS = pytest.StashKey[list[tuple[str, str, str, str]]]()
_HEAD = ("figure", "measured", "ratio", "aim")


class Figure(Protocol):
    """Keep one figure; `ratio` is to the baseline measured in the same run."""

    def __call__(
        self, name: str, measured: str, *, aim: str = "", ratio: float | None = None
    ) -> None: ...


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Figure:
    rows = pytestconfig.stash.setdefault(_ROWS, [])

    def keep(name: str, measured: str, *, aim: str = "", ratio: float | None = None) -> None:
        rows.append((name, measured, "" if ratio is None else f"{ratio:.3g}", aim))

    return keep


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = [_HEAD, *config.stash.get(_ROWS, [])]
    if len(rows) == 1:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    terminalreporter.section("figures")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.line("  ".join(cells).rstrip())
