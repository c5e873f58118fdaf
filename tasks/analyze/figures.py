"""Which plots a comparison has, by the text that stands in for each, and its Pareto fronts.

figures = draw(rows, baseline="baseline", primary="text/acc", confidence=0.95, load_points={},
               curves={"train": lines}, service_levels=())
figures.plots["Recovery with intervals"]      # SVG
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.analyze import plots
from tasks.analyze.rows import pareto_front
from tasks.analyze.spec import VariantRow
from tasks.benchmark.spec import LoadPoint, ServiceLevel

MEBIBYTE = 1 << 20
QUANTITIES = {
    "itl_ms": ("Latency against throughput", "time between tokens"),
    "ttft_ms": ("First token against throughput", "time to first token"),
    "latency_s": ("Whole answer against throughput", "time to last token"),
}


class Figures(NamedTuple):
    """SVGs by alternative text, in the order shown; names on the two fronts."""

    plots: dict[str, str]
    pareto_size: tuple[str, ...]
    pareto_speed: tuple[str, ...]


def draw(
    rows: Sequence[VariantRow],
    *,
    baseline: str | None,
    primary: str | None,
    confidence: float,
    load_points: Mapping[str, Sequence[LoadPoint]],
    curves: Mapping[str, Sequence[dict[str, Any]]],
    service_levels: Sequence[ServiceLevel],
) -> Figures:
    """All plots that there are data for."""
    quality = quality_of(rows, baseline, primary)
    size = {
        row.name: (row.model_size_bytes / MEBIBYTE, quality[row.name])
        for row in rows
        if row.model_size_bytes is not None and row.name in quality
    }
    speed = {
        row.name: (row.serving.output_tokens_per_s, quality[row.name])
        for row in rows
        if row.serving is not None
        and row.serving.output_tokens_per_s is not None
        and row.name in quality
    }
    smallest = pareto_front({name: (x, -y) for name, (x, y) in size.items()})
    fastest = pareto_front({name: (-x, -y) for name, (x, y) in speed.items()})
    drawn: dict[str, str | None] = {}
    for name, lines in curves.items():
        title = "Training loss" if len(curves) == 1 else f"Training loss of {name}"
        drawn[title] = plots.loss_plot(lines, title)
    drawn["Recovery with intervals"] = plots.recovery_plot(rows, confidence)
    for quantity, (title, words) in QUANTITIES.items():
        limits = [level for level in service_levels if getattr(level, quantity) is not None]
        if quantity == "latency_s" and not limits:
            continue  # it follows from the two others
        drawn[title] = plots.load_plot(load_points, quantity, title, words, limits)
    drawn["Recovery against size"] = plots.pareto_plot(
        size, smallest, f"Recovery against size\n{primary}", "size of the weights (MiB)"
    )
    drawn["Recovery against speed"] = plots.pareto_plot(
        speed, fastest, f"Recovery against speed\n{primary}", "output tokens per second"
    )
    return Figures({text: svg for text, svg in drawn.items() if svg is not None}, smallest, fastest)


def quality_of(
    rows: Sequence[VariantRow], baseline: str | None, primary: str | None
) -> dict[str, float]:
    """Recovery in percent by the primary metric, where it is known; the baseline has 100."""
    if primary is None or baseline is None:
        return {}
    known = {
        row.name: 100 * recovery.comparison.estimate
        for row in rows
        for recovery in row.recoveries
        if recovery.label == primary and recovery.comparison.estimate is not None
    }
    return {baseline: 100.0, **known}
