"""One self-contained HTML page: the table, then the plots, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from importlib.resources import files

import jinja2

from tasks.analyze.spec import AnalyzeSpec, VariantRow
from tasks.analyze.table import comparison_table, gaps, percent


def render_report(
    spec: AnalyzeSpec,
    rows: tuple[VariantRow, ...],
    fronts: dict[str, tuple[str, ...]],
    plots: dict[str, str],
) -> str:
    """The page; `plots` maps alternative text to SVG, in the order shown."""
    template = files("tasks.analyze").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    headers, lines = comparison_table(rows)
    return environment.from_string(template).render(
        title=spec.title,
        baseline=spec.baseline,
        confidence=percent(spec.confidence),
        gaps=gaps(rows),
        headers=headers,
        lines=lines,
        rows=rows,
        fronts={name: front for name, front in fronts.items() if front},
        plots={text: _as_image(svg) for text, svg in plots.items()},
    )


def _as_image(svg: str) -> str:
    """A data URI: inside an image the ids of one SVG cannot meet those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
