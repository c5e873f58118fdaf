"""The curve of a run: what is logged at which step, the same after a kill as without one.

Losses are kept apart from speeds: the lines of the curve are the same on every run of the spec on
one machine, and become an artifact; speeds only go into the run's metrics.

    {"step": 10, "loss": 6.91, "learning_rate": 0.0009, "gradient_norm": 1.4, "num_tokens": 40960}
    {"step": 100, "validation_loss": 6.02, …}
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Curve:
    """Lines so far, and the sums of the interval that is not logged yet. All of it is JSON."""

    lines: list[dict[str, float]] = field(default_factory=list)
    first_loss: float | None = None  # of the very first step
    interval_loss: float = 0.0  # sum over the interval's steps
    interval_steps: int = 0

    def add_step(self, loss: float) -> None:
        if self.first_loss is None:
            self.first_loss = loss
        self.interval_loss += loss
        self.interval_steps += 1

    def end_interval(self, step: int, **values: float) -> dict[str, float]:
        """Close the interval after `step` steps: its mean loss and the step's own values."""
        line = {"step": step, "loss": self.interval_loss / self.interval_steps, **values}
        self.interval_loss, self.interval_steps = 0.0, 0
        self.lines.append(line)
        return line

    def add_validation(self, step: int, loss: float) -> dict[str, float]:
        line = {"step": step, "validation_loss": loss}
        self.lines.append(line)
        return line

    def first(self, name: str) -> float | None:
        return next((line[name] for line in self.lines if name in line), None)

    def last(self, name: str) -> float | None:
        return next((line[name] for line in reversed(self.lines) if name in line), None)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Curve:
        return cls(**value)

    def write(self, path: Path) -> Path:
        """JSON lines, one per logged step."""
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines)
        path.write_text(text, encoding="utf-8")
        return path
