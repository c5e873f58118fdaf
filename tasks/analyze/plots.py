"""The report's plots, each from plain numbers to one SVG: no dates, no ids that change.

svg = recovery_plot(result.rows, confidence=0.95)      # text; embed it as an image
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tasks.analyze.spec import VariantRow
from tasks.analyze.table import percent
from tasks.benchmark.spec import LoadPoint

WIDTH_IN, HEIGHT_IN = 7.2, 4.0
COLORS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774")  # told apart by most
STYLE = {
    "svg.hashsalt": "labwright",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.frameon": False,
}


@contextmanager
def _canvas(height_in: float = HEIGHT_IN) -> Iterator[tuple[Any, Any, io.StringIO]]:
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        yield figure, figure.subplots(), buffer
        figure.savefig(buffer, format="svg", metadata={"Date": None})


def loss_plot(metrics: Sequence[dict[str, Any]]) -> str | None:
    """Training and validation loss (nats per token) against the step; None without a curve."""
    with _canvas() as (_, axes, buffer):
        for name, label, style in (
            ("loss", "training", "-"),
            ("validation_loss", "held out", "o-"),
        ):
            points = [(line["step"], line[name]) for line in metrics if line.get(name) is not None]
            if points:
                color = COLORS[0] if name == "loss" else COLORS[1]
                axes.plot(*zip(*points, strict=True), style, color=color, label=label, markersize=4)
        if not axes.lines:
            return None
        axes.set(title="Training loss", xlabel="optimizer step", ylabel="loss (nats per token)")
        axes.legend()
    return buffer.getvalue()


def recovery_plot(rows: Sequence[VariantRow], confidence: float) -> str | None:
    """Recovery of each variant and metric with its interval, in percent; None if none is known."""
    found = [
        (f"{row.name}\n{recovery.label}", recovery.comparison.estimate, recovery.comparison)
        for row in rows
        for recovery in row.recoveries
        if recovery.comparison.estimate is not None
    ]
    if not found:
        return None
    with _canvas(1.2 + 0.55 * len(found)) as (_, axes, buffer):
        for place, (_, estimate, comparison) in enumerate(found):
            axes.plot([100 * estimate], [place], "o", color=COLORS[0])
            if comparison.low is not None and comparison.high is not None:
                ends = [100 * comparison.low, 100 * comparison.high]
                axes.plot(ends, [place, place], "-", color=COLORS[0], linewidth=2)
        axes.axvline(100, color=COLORS[5], linewidth=1)
        axes.axvline(99, color=COLORS[5], linewidth=1, linestyle="--")
        axes.set_yticks(range(len(found)), [label for label, *_ in found], fontsize=9)
        axes.invert_yaxis()
        axes.set(
            title=f"Recovery with {percent(confidence)} intervals (paired by item)",
            xlabel="recovery (%): 100 is the baseline, 99 is dashed",
        )
    return buffer.getvalue()


def load_plot(points: dict[str, Sequence[LoadPoint]]) -> str | None:
    """Time between tokens against output tokens/s: medians of each load joined, repeats pale."""
    with _canvas() as (_, axes, buffer):
        for color, (name, measured) in zip(COLORS * len(points), points.items(), strict=False):
            by_load: dict[str, list[tuple[float, float]]] = {}
            for point in measured:
                if point.itl_ms is not None:
                    place = (point.output_tokens_per_s, point.itl_ms.p50)
                    by_load.setdefault(point.load, []).append(place)
            for repeats in by_load.values():
                axes.plot(*zip(*repeats, strict=True), "o", color=color, alpha=0.35, markersize=5)
            medians = [tuple(map(median, zip(*r, strict=True))) for r in by_load.values()]
            if medians:
                axes.plot(*zip(*sorted(medians), strict=True), "o-", color=color, label=name)
        if not axes.lines:
            return None
        axes.set(
            title="Latency against throughput",
            xlabel="output tokens per second",
            ylabel="time between tokens, p50 (ms)",
        )
        axes.set_ylim(bottom=0)
        axes.legend()
    return buffer.getvalue()


def pareto_plot(
    places: dict[str, tuple[float, float]], front: Sequence[str], title: str, xlabel: str
) -> str | None:
    """Recovery (%) against a cost or a speed; the front is filled and joined."""
    if len(places) < 2:
        return None
    with _canvas() as (_, axes, buffer):
        joined = sorted(places[name] for name in front)
        axes.plot(*zip(*joined, strict=True), "--", color=COLORS[1], label="Pareto front")
        for name, (x, y) in places.items():
            filled = COLORS[0] if name in front else "none"
            axes.plot([x], [y], "o", color=COLORS[0], markerfacecolor=filled, markersize=8)
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(7, 6), fontsize=10)
        axes.margins(0.18)
        axes.ticklabel_format(useOffset=False)
        axes.set(title=title, xlabel=xlabel, ylabel="recovery (%)")
        axes.legend()
    return buffer.getvalue()
