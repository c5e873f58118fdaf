"""The report's plots, each from plain numbers to one SVG: no dates, no ids that change.

svg = recovery_plot(result.rows, confidence=0.95)      # text; embed it as an image
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tasks.analyze.comparison import PairedComparison
from tasks.analyze.spec import VariantRow
from tasks.analyze.table import percent
from tasks.benchmark.spec import LoadPoint, ServiceLevel

WIDTH_IN, HEIGHT_IN = 5.4, 3.7  # drawn small, so that a phone shows letters that can be read
COLORS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774")  # told apart by most
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
NEAR = 0.25  # of the width: names of points that close would meet
MAX_NAME = 24  # characters of a name in a plot
STYLE = {
    "svg.hashsalt": "labwright",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.frameon": False,
}


@contextmanager
def _canvas(
    height_in: float = HEIGHT_IN, num_panels: int = 1, heights: Sequence[float] = (1.0,)
) -> Iterator[tuple[Any, Any, io.StringIO]]:
    """Figure, its axes (a list of them where panels are asked for), and what is drawn into."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        grid = figure.subplots(
            num_panels, 1, squeeze=False, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        yield figure, grid if heights != (1.0,) else grid[0], buffer
        figure.savefig(buffer, format="svg", metadata={"Date": None})


def loss_plot(metrics: Sequence[dict[str, Any]], title: str = "Training loss") -> str | None:
    """Training and held-out loss (nats per token) against the step; None without a curve."""
    with _canvas() as (_, axes, buffer):
        for names, label, style, color in (
            (("loss", "train_loss"), "training", "-", COLORS[0]),
            (("validation_loss", "eval_loss"), "held out", "o-", COLORS[1]),
        ):
            points = [
                (line["step"], line[name])
                for line in metrics
                for name in names
                if isinstance(line.get(name), int | float) and math.isfinite(line[name])
            ]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, label=label, markersize=4)
        if not axes.lines:
            return None
        axes.set(title=title, xlabel="optimizer step", ylabel="loss (nats per token)")
        axes.legend()
    return buffer.getvalue()


def recovery_plot(rows: Sequence[VariantRow], confidence: float) -> str | None:
    """A forest plot: recovery of each variant and metric with its interval, in percent.

    One panel a metric, as an interval of bits per byte is a hundredth of one of accuracy. None if
    no recovery is known.
    """
    panels: dict[str, list[tuple[str, PairedComparison]]] = {}
    for row in rows:
        for recovery in row.recoveries:
            if recovery.comparison.estimate is not None:
                panels.setdefault(recovery.label, []).append((row.name, recovery.comparison))
    if not panels:
        return None
    heights = [len(found) + 1.6 for found in panels.values()]
    with _canvas(0.9 + 0.27 * sum(heights), len(panels), heights) as (figure, grid, buffer):
        for axes, (label, found) in zip(grid, panels.items(), strict=True):
            _forest(axes, label, found)
        grid[-1].set_xlabel("recovery (%): 100 is the baseline, 99 is dashed")
        figure.suptitle(
            f"Recovery with {percent(confidence)} intervals, paired by item",
            x=0.02, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
    return buffer.getvalue()


def _forest(axes: Any, label: str, found: Sequence[tuple[str, PairedComparison]]) -> None:
    """One metric: a point and an interval for each variant."""
    for place, (_, comparison) in enumerate(found):
        assert comparison.estimate is not None
        axes.plot([100 * comparison.estimate], [place], "o", color=COLORS[0], markersize=6)
        if comparison.low is not None and comparison.high is not None:
            ends = [100 * comparison.low, 100 * comparison.high]
            axes.plot(ends, [place, place], "|-", color=COLORS[0], linewidth=1.8)
    low, high = axes.get_xlim()
    axes.axvline(100, color=COLORS[5], linewidth=1)
    if low < 99 < high or high < 99:
        axes.axvline(99, color=COLORS[5], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(found)), [_short(name) for name, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(_plain(label), fontsize=9, fontweight="normal")


def load_plot(
    points: Mapping[str, Sequence[LoadPoint]],
    quantity: str,
    title: str,
    words: str,
    levels: Sequence[ServiceLevel] = (),
) -> str | None:
    """A latency against output tokens/s: medians of each load joined, repeats pale.

    A service level is a dashed line, and the percentile that it is about is what is plotted: the
    nearest of those that were measured; without one it is the median. None without a latency.
    """
    fraction = max((level.fraction for level in levels), default=0.5)
    percentile = min(PERCENTILES, key=lambda name: abs(PERCENTILES[name] - fraction))
    with _canvas() as (_, axes, buffer):
        for color, (name, measured) in zip(COLORS * len(points), points.items(), strict=False):
            by_load: dict[str, list[tuple[float, float]]] = {}
            for point in measured:
                spread = getattr(point, quantity)
                if spread is not None:
                    place = (point.output_tokens_per_s, getattr(spread, percentile))
                    by_load.setdefault(point.load, []).append(place)
            for repeats in by_load.values():
                axes.plot(*zip(*repeats, strict=True), "o", color=color, alpha=0.35, markersize=5)
            medians = [tuple(map(median, zip(*r, strict=True))) for r in by_load.values()]
            if medians:
                shown = _short(name)
                axes.plot(*zip(*sorted(medians), strict=True), "o-", color=color, label=shown)
        if not axes.lines:
            return None
        for limit in sorted({getattr(level, quantity) for level in levels}):
            axes.axhline(limit, color=COLORS[4], linestyle="--", label=f"service level: {limit:g}")
        unit = quantity.rpartition("_")[2]
        axes.set(title=title, xlabel="output tokens per second")
        axes.set_ylabel(f"{words}, {percentile} ({unit})")
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
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
        axes.margins(0.12, 0.2)
        _label_places(axes, places)
        axes.ticklabel_format(useOffset=False)
        axes.set(title=_plain(title), xlabel=xlabel, ylabel="recovery (%)")
        axes.legend()
    return buffer.getvalue()


def _label_places(axes: Any, places: dict[str, tuple[float, float]]) -> None:
    """Names beside their points: to the left in the right half, below where one is near above."""
    low, high = axes.get_xlim()
    for name, (x, y) in places.items():
        is_right = x > (low + high) / 2
        is_below = any(
            other != name and abs(x - there) < NEAR * (high - low) and above > y
            for other, (there, above) in places.items()
        )
        axes.annotate(
            _short(name),
            (x, y),
            textcoords="offset points",
            xytext=(-8 if is_right else 8, -13 if is_below else 6),
            ha="right" if is_right else "left",
            fontsize=9,
        )


def _short(name: str) -> str:
    """A name that leaves room for the plot, and is no formula to matplotlib."""
    cut = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return _plain(cut)


def _plain(text: str) -> str:
    r"""Text in which `$` begins no formula."""
    return text.replace("$", r"\$")
