"""The analysis itself: read what was measured, compare, plot, write the page."""

from __future__ import annotations

import json

from tasks.analyze.figures import draw
from tasks.analyze.report import Page, render_page
from tasks.analyze.rows import Samples, compare_variants, samples_at
from tasks.analyze.spec import AnalyzeResult, AnalyzeSpec, Variant, VariantRow
from tasks.artifacts import ArtifactKind
from tasks.body import BodyContext, run_body
from tasks.metrics import read_metrics


def main(spec: AnalyzeSpec, context: BodyContext) -> AnalyzeResult:
    """Compare the variants, write table.json and the report."""
    samples = {name: _samples(name, variant, context) for name, variant in spec.variants.items()}
    rows = compare_variants(spec.baseline, spec.variants, samples, spec.confidence)
    primary = _primary(spec, rows)
    metrics = read_metrics(context.path(spec.training_curve)) if spec.training_curve else []
    figures = draw(
        rows,
        baseline=spec.baseline,
        primary=primary,
        confidence=spec.confidence,
        load_points={name: v.load_points for name, v in spec.variants.items() if v.load_points},
        curves={"training": metrics} if metrics else {},
        service_levels=[spec.service_level] if spec.service_level else [],
    )
    page = render_page(
        Page(
            title=spec.title,
            baseline=spec.baseline,
            confidence=spec.confidence,
            rows=rows,
            fronts={
                "small and good": figures.pareto_size,
                "fast and good": figures.pareto_speed,
            },
            plots=figures.plots,
        )
    )
    folder = context.out / "report"
    folder.mkdir()
    (folder / "index.html").write_text(page, encoding="utf-8")
    table = context.out / "table.json"
    table.write_text(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
    return AnalyzeResult(
        baseline=spec.baseline,
        primary=primary,
        rows=rows,
        pareto_size=figures.pareto_size,
        pareto_speed=figures.pareto_speed,
        table=context.artifact(ArtifactKind.TABLE, table),
        report=context.artifact(ArtifactKind.REPORT, folder),
    )


def _samples(name: str, variant: Variant, context: BodyContext) -> Samples:
    try:
        return samples_at(context.path(one.samples) for one in variant.evaluations)
    except ValueError as error:
        raise ValueError(f"variant '{name}': {error}") from error


def _primary(spec: AnalyzeSpec, rows: tuple[VariantRow, ...]) -> str | None:
    """The metric that stands for quality; ValueError where the one asked for was not compared."""
    compared = list(dict.fromkeys(r.label for row in rows for r in row.recoveries if r.is_compared))
    if spec.primary is not None and spec.primary not in compared:
        raise ValueError(f"primary '{spec.primary}' was not compared; there are {compared}")
    return spec.primary or next(iter(compared), None)


if __name__ == "__main__":
    run_body(AnalyzeSpec, main)
