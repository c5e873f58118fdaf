"""Toy steps, whose bodies are real processes that run for milliseconds.

    result = (await toy.compute(ToySpec(seed=1))).result
    await toy.compute(ToySpec(manner=Manner.LEAVES_NAN))        # StepFailed

`starts` says how often bodies ran, `placed` tells them where to note it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.observer import Observer
from tasks.spec import Placement
from tasks.step import research_step
from tests.fakes.toy_spec import CountResult, CountSpec, Manner, ToyResult, ToySpec

__all__ = [
    "CountSpec",
    "Manner",
    "ToySpec",
    "Witness",
    "count",
    "measure",
    "notes",
    "placed",
    "starts",
    "toy",
]

toy = research_step(
    name="toy", spec=ToySpec, result=ToyResult, body="tests.fakes.toy_body", uses_gpu=True
)
measure = research_step(
    name="measure",
    spec=ToySpec,
    result=ToyResult,
    body="tests.fakes.toy_body",
    measures=True,
)
count = research_step(
    name="count",
    spec=CountSpec,
    result=CountResult,
    body="tests.fakes.count_body",
    packages=("pydantic",),
)


def placed(folder: Path, **fields: Any) -> Placement:
    """A placement whose bodies note their starts in `folder`."""
    environment = {"TOY_STARTS": str(folder / "starts.txt"), **fields.pop("environment", {})}
    return Placement(environment=environment, **{"grace_s": 0.3, **fields})


def notes(folder: Path, event: str = "") -> list[tuple[str, int, float]]:
    """What bodies noted: event, pid, time in seconds of the monotonic clock."""
    path = folder / "starts.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(name, int(pid), float(when)) for name, pid, when in lines if name.startswith(event)]


def starts(folder: Path) -> int:
    """How many bodies were started."""
    return len(notes(folder, "start"))


class Witness(Observer):
    """Remembers everything that a step tells."""

    def __init__(self, log_folder: Path | None = None):
        self.log_folder = log_folder
        self.started_steps: list[str] = []
        self.lines: list[str] = []
        self.metrics: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.waits: list[str] = []

    def waiting(self, what: str | None) -> None:
        self.waits += [] if what is None else [what]

    def started(self, step: str, identity: str) -> None:  # noqa: ARG002
        self.started_steps.append(step)

    def output(self, stream: str, line: str) -> None:  # noqa: ARG002
        self.lines.append(line)

    async def progress(self, metrics: dict[str, Any]) -> None:
        self.metrics.append(metrics)

    def warned(self, message: str) -> None:
        self.warnings.append(message)
