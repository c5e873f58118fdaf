"""What an analysis is given and what it finds: variants against a baseline, item by item.

AnalyzeSpec(
    baseline="baseline",
    variants={"baseline": Variant(evaluations=(…,)), "w8a8": Variant(…)},
)
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.analyze.comparison import PairedComparison
from tasks.artifacts import ArtifactKind, ArtifactRef, Input
from tasks.benchmark.spec import LoadPoint, ServiceLevel
from tasks.errors import nearest
from tasks.evaluate.spec import Score
from tasks.spec import Frozen, Result, Spec


class Evaluation(Frozen):
    """What one evaluate step found out about a model."""

    scores: tuple[Score, ...] = Field(description="`scores` of the step.")
    samples: Annotated[Input, ArtifactKind.SAMPLES] = Field(description="`samples` of the step.")


class Variant(Frozen):
    """What was measured of one model; leave out what was not."""

    evaluations: tuple[Evaluation, ...] = Field(default=(), description="One an evaluate step.")
    model_size_bytes: int | None = Field(default=None, gt=0, description="Size of its weights.")
    load_points: tuple[LoadPoint, ...] = Field(default=(), description="`points` of its benchmark.")

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores of all its evaluations."""
        return tuple(score for evaluation in self.evaluations for score in evaluation.scores)


class AnalyzeSpec(Spec):
    """Which model is compared with which, on what."""

    title: str = Field(default="Compression against its baseline", description="Of the report.")
    baseline: str = Field(description="Name of the variant that the others are compared with.")
    variants: dict[str, Variant] = Field(min_length=1, description="What was measured, by name.")
    primary: str | None = Field(
        default=None,
        description="`task/metric` that stands for quality in the Pareto front; by default the "
        "first metric that was compared.",
    )
    training_curve: Annotated[Input, ArtifactKind.METRICS] | None = Field(
        default=None, description="`curve` of a training, plotted in the report."
    )
    service_level: ServiceLevel | None = Field(
        default=None, description="Latencies that users expect, drawn as lines; changes no number."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Nominal coverage of the intervals."
    )

    @model_validator(mode="after")
    def _baseline_is_a_variant(self) -> Self:
        if self.baseline not in self.variants:
            raise ValueError(
                f"baseline '{self.baseline}' is none of the variants "
                f"({', '.join(self.variants)}){nearest(self.baseline, self.variants)}"
            )
        return self


class Recovery(Frozen):
    """How much of the baseline's score a variant kept, on the same items."""

    task: str = Field(description="Name of the task.")
    metric: str = Field(description="Name of the metric, with its filter.")
    comparison: PairedComparison = Field(description="Estimate and interval.")

    @property
    def label(self) -> str:
        return f"{self.task}/{self.metric}"

    @property
    def is_compared(self) -> bool:
        """Whether both models were measured with it; if not, the comparison says who was not."""
        return self.comparison.num_items > 0


class Latency(Frozen):
    """Median over repeats of a percentile over requests, in milliseconds."""

    p50: float = Field(ge=0, description="Of half of the requests.")
    p99: float = Field(ge=0, description="Of 99% of the requests.")


class ServingSummary(Frozen):
    """How fast a server with this model answered."""

    output_tokens_per_s: float | None = Field(
        ge=0, description="At the load that served the most of the baseline."
    )
    throughput_load: str = Field(description="That load, the same in every row of a table.")
    latency_load: str = Field(
        description="The load at which latencies were taken: the baseline's lightest."
    )
    num_repeats: int = Field(ge=1, description="Repeats of each load.")
    ttft_ms: Latency | None = Field(description="Time to first token.")
    itl_ms: Latency | None = Field(description="Time between tokens.")


class VariantRow(Frozen):
    """One line of the table: absent is what was not measured."""

    name: str = Field(description="Name of the variant.")
    scores: tuple[Score, ...] = Field(description="Its scores.")
    model_size_bytes: int | None = Field(description="Size of its weights.")
    size_fraction: float | None = Field(description="Of the baseline's size.")
    recoveries: tuple[Recovery, ...] = Field(description="Against the baseline, by metric.")
    serving: ServingSummary | None = Field(description="Speed under load.")


class AnalyzeResult(Result):
    """The comparison as numbers, and as a page."""

    baseline: str = Field(description="Name of the baseline.")
    primary: str | None = Field(description="`task/metric` that stands for quality.")
    rows: tuple[VariantRow, ...] = Field(description="One a variant, the baseline first.")
    pareto_size: tuple[str, ...] = Field(description="Front of small size and high recovery.")
    pareto_speed: tuple[str, ...] = Field(description="Front of tokens/s and high recovery.")
    table: Annotated[ArtifactRef, ArtifactKind.TABLE] = Field(description="The rows as JSON.")
    report: Annotated[ArtifactRef, ArtifactKind.REPORT] = Field(
        description="Folder with a self-contained index.html."
    )

    def overview(self) -> tuple[list[str], list[list[str]]]:
        """The comparison, one line a variant."""
        from tasks.analyze.table import comparison_table

        return comparison_table(self.rows)
