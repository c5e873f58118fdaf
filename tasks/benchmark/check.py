"""What must hold of a benchmark's result before anybody relies on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.benchmark.spec import BenchmarkResult, BenchmarkSpec


def check(
    spec: BenchmarkSpec, result: BenchmarkResult, _open_artifact: Callable[[Any], Path]
) -> None:
    """ValueError unless every load was measured in every repeat, on the hardware declared."""
    if result.hardware != spec.hardware:
        raise ValueError(f"measured on '{result.hardware}', declared is '{spec.hardware}'")
    measured = Counter((point.load, point.repeat) for point in result.points)
    for profile in spec.profiles:
        for repeat in range(spec.repeats):
            label = f"{profile.label} 1" if profile.kind == "sweep" else profile.label
            if (times := measured[label, repeat]) != 1:
                raise ValueError(f"load '{label}' was measured {times} times in repeat {repeat}")
    for point in result.points:
        if point.error_fraction > spec.max_error_fraction:
            raise ValueError(
                f"load '{point.load}', repeat {point.repeat}: error fraction "
                f"{point.error_fraction:.3f} is above {spec.max_error_fraction:g}"
            )
