"""The analysis itself: read what was measured, compare, plot, write the page."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tasks.analyze import plots
from tasks.analyze.report import render_report
from tasks.analyze.rows import (
    SampleLine,
    compare_variants,
    pareto_front,
    parse_samples,
    read_samples,
)
from tasks.analyze.spec import AnalyzeResult, AnalyzeSpec, Variant, VariantRow
from tasks.artifacts import ArtifactKind
from tasks.body import BodyContext, run_body
from tasks.metrics import read_metrics

MEBIBYTE = 1 << 20


def main(spec: AnalyzeSpec, context: BodyContext) -> AnalyzeResult:
    """Compare the variants, write table.json and the report."""
    samples = {
        name: read_samples(_sample_lines(name, variant, context))
        for name, variant in spec.variants.items()
    }
    rows = compare_variants(spec.baseline, spec.variants, samples, spec.confidence)
    primary = _primary(spec, rows)
    quality = _quality(rows, spec.baseline, primary)
    size = {
        row.name: (row.model_size_bytes / MEBIBYTE, quality[row.name])
        for row in rows
        if row.model_size_bytes is not None and row.name in quality
    }
    speed = {
        row.name: (row.serving.output_tokens_per_s, quality[row.name])
        for row in rows
        if row.serving is not None and row.name in quality
    }
    smallest = pareto_front({name: (x, -y) for name, (x, y) in size.items()})
    fastest = pareto_front({name: (-x, -y) for name, (x, y) in speed.items()})

    metrics = read_metrics(context.path(spec.training_curve)) if spec.training_curve else []
    drawn = {
        "Training loss": plots.loss_plot(metrics) if metrics else None,
        "Recovery with intervals": plots.recovery_plot(rows, spec.confidence),
        "Latency against throughput": plots.load_plot(
            {name: v.load_points for name, v in spec.variants.items() if v.load_points}
        ),
        "Recovery against size": plots.pareto_plot(
            size, smallest, f"Recovery against size ({primary})", "size of the weights (MiB)"
        ),
        "Recovery against speed": plots.pareto_plot(
            speed, fastest, f"Recovery against speed ({primary})", "output tokens per second"
        ),
    }
    fronts = {"small and good": smallest, "fast and good": fastest}
    page = render_report(
        spec, rows, fronts, {text: svg for text, svg in drawn.items() if svg is not None}
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
        pareto_size=smallest,
        pareto_speed=fastest,
        table=context.artifact(ArtifactKind.TABLE, table),
        report=context.artifact(ArtifactKind.REPORT, folder),
    )


def _sample_lines(name: str, variant: Variant, context: BodyContext) -> Iterator[SampleLine]:
    for evaluation in variant.evaluations:
        with context.path(evaluation.samples).open(encoding="utf-8") as file:
            try:
                yield from parse_samples(file)
            except ValueError as error:
                raise ValueError(f"variant '{name}': {error}") from error


def _primary(spec: AnalyzeSpec, rows: tuple[VariantRow, ...]) -> str | None:
    """The metric that stands for quality; ValueError where the one asked for was not compared."""
    compared = list(dict.fromkeys(r.label for row in rows for r in row.recoveries if r.is_compared))
    if spec.primary is not None and spec.primary not in compared:
        raise ValueError(f"primary '{spec.primary}' was not compared; there are {compared}")
    return spec.primary or next(iter(compared), None)


def _quality(rows: tuple[VariantRow, ...], baseline: str, primary: str | None) -> dict[str, float]:
    """Recovery in percent by the primary metric, where it is known; the baseline has 100."""
    if primary is None:
        return {}
    known = {
        row.name: 100 * recovery.comparison.estimate
        for row in rows
        for recovery in row.recoveries
        if recovery.label == primary and recovery.comparison.estimate is not None
    }
    return {baseline: 100.0, **known}


if __name__ == "__main__":
    run_body(AnalyzeSpec, main)
