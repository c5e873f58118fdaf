"""One ladder of errors, each with the exit status that the command line ends with.

    LabwrightError
      SpecError            what a user wrote is wrong (all problems of a file at once)      2
      EnvironmentMissing   an interpreter, package or program is not there                  2
      Corrupted            stored bytes are not what their digest says                      1
      StoreError           the store cannot be read or written (full disk, permissions)     1
      StepFailed           a body ended without a usable result                             1
        StepTimedOut       … because its deadline passed

Messages are for people: they name the bad value, where it came from, and what to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class LabwrightError(Exception):
    """Base of everything that labwright raises on purpose."""

    exit_status = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in what a user wrote.

    Example: `quickstart.yaml:12:7: steps.train.num_step: unknown key; did you mean 'num_steps'?`
    """

    message: str
    source: str = ""  # a file's path, "--set", or the name of a spec
    line: int | None = None  # counted from 1
    column: int | None = None  # counted from 1
    key: str = ""  # dotted path within the source

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part)
        return ": ".join(part for part in (place, self.key, self.message) if part)


class SpecError(LabwrightError):
    """What a user wrote is wrong; carries every problem that was found."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem] | str):
        self.problems = (Problem(problems),) if isinstance(problems, str) else _in_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """As they stand in each file; files as they came, and first what has no line."""
    found = list(problems)
    sources = list(dict.fromkeys(problem.source for problem in found))
    return tuple(sorted(found, key=lambda p: (sources.index(p.source), p.line or 0, p.column or 0)))


class EnvironmentMissing(LabwrightError):
    """An interpreter, a package or a program that a step needs is not installed."""

    exit_status = 2


class Corrupted(LabwrightError):
    """Stored bytes are not what their name promises."""

    def __init__(self, what: str, reason: str):
        self.what = what
        self.reason = reason
        super().__init__(f"{what}: {reason}")


class StoreError(LabwrightError):
    """The store cannot be read or written; says which path and why."""


class StepFailed(LabwrightError):
    """A step's body ended without a usable result."""

    def __init__(self, step: str, reason: str, logs: Path | None = None):
        self.step = step
        self.reason = reason
        self.logs = logs  # may become known later than the rest
        super().__init__(step, reason, logs)

    def __str__(self) -> str:
        where = f"\n  logs: {self.logs}" if self.logs else ""
        return f"step '{self.step}' failed: {self.reason}{where}"


class StepTimedOut(StepFailed):
    """The body ran past its deadline and was killed with all its descendants."""


def nearest(name: str, valid: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` for the closest valid name, or an empty string.

    `likeness` is how close is close enough, from 0 (anything) to 1 (the same).
    """
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=likeness)
    return f"; did you mean '{close[0]}'?" if close else ""
