"""What a gate is asked: criteria over what other steps measured.

    GateSpec(criteria={
        "quality": {"kind": "recovery", "metric": "text/acc", "baseline": …, "variant": …},
        "size": {"kind": "size_ratio", "size_bytes": …, "base_size_bytes": …, "threshold": 0.6},
        "answers": {"kind": "latency", "points": …, "load": "concurrent 4",
                    "quantity": "ttft_ms", "percentile": "p99", "threshold": 200},
    })

A gate is passed when every criterion is; as all of them must be, no correction for their number is
due. What is missing is never passed. What a file can get wrong is a field of its own, so that it
is found before anything runs; which metrics and loads there are is only known then.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.analyze.spec import Evaluation, VariantRow
from tasks.benchmark.spec import LoadPoint
from tasks.spec import Frozen, Spec
from tasks.verdict import Limit

BITS_PER_BYTE = "bits_per_byte"


def _task_and_metric(name: str) -> str:
    parts = name.split("/")  # a group's task has slashes: leaderboard/bbh/average
    if len(parts) < 2 or not all(parts) or any(map(str.isspace, name)):
        raise ValueError("must be task/metric, e.g. heldout_text/bits_per_byte")
    return name


def _bits_per_byte(name: str) -> str:
    if not name.endswith(f"/{BITS_PER_BYTE}"):
        raise ValueError(f"must be task/{BITS_PER_BYTE}, which perplexity per byte follows from")
    return name


MetricName = Annotated[str, AfterValidator(_task_and_metric)]
Metric = Annotated[MetricName, Field(description="`task/metric`, as tables name it.")]
Points = Annotated[
    tuple[LoadPoint, ...], Field(description="`points` of a benchmark; repeats are the unit.")
]


class Inconclusive(StrEnum):
    """What a gate does where a criterion is inconclusive."""

    STOP = "stop"  # it is not passed
    PASS = "pass"  # noqa: S105  (no password: it is passed all the same)


class Quantity(StrEnum):
    """A time of a request."""

    TTFT = "ttft_ms"  # to the first token
    ITL = "itl_ms"  # between tokens
    LATENCY = "latency_s"  # to the last token, end to end


class Rate(StrEnum):
    """What a server got done in a second."""

    OUTPUT_TOKENS = "output_tokens_per_s"
    REQUESTS = "requests_per_s"


class RecoveryCriterion(Frozen):
    """The share of the baseline's score that a variant kept, paired item by item."""

    kind: Literal["recovery"]
    metric: Metric
    baseline: Evaluation = Field(description="`scores` and `samples` of the baseline.")
    variant: Evaluation = Field(description="`scores` and `samples` of the variant.")
    threshold: float = Field(
        default=0.99, gt=0, description="The lower end of the interval must be above it."
    )


class AnalyzedRecoveryCriterion(Frozen):
    """The same out of an analysis that was made before, at no less than the gate's confidence."""

    kind: Literal["analyzed_recovery"]
    metric: Metric
    rows: tuple[VariantRow, ...] = Field(description="`rows` of an analyze step.")
    variant: str = Field(min_length=1, description="Name of the variant there.")
    threshold: float = Field(
        default=0.99, gt=0, description="The lower end of the interval must be above it."
    )


class SizeCriterion(Frozen):
    """Bytes of the weights, as a share of the base model's; an exact number."""

    kind: Literal["size_ratio"]
    size_bytes: int | None = Field(description="`size_bytes` of a compress step.")
    base_size_bytes: int | None = Field(description="`base_size_bytes` of a compress step.")
    threshold: float = Field(gt=0, description="Largest share that passes.")


class LatencyCriterion(Frozen):
    """A percentile of a latency over all requests of a load; those that failed took for ever."""

    kind: Literal["latency"]
    points: Points
    load: str = Field(min_length=1, description="Label of the load, e.g. `concurrent 4`.")
    quantity: Quantity = Field(description="Which time.")
    percentile: Literal["p50", "p90", "p95", "p99"] = Field(description="Of the requests.")
    threshold: float = Field(gt=0, description="Longest that passes, in the quantity's unit.")


class ThroughputCriterion(Frozen):
    """What was served in a second under a load."""

    kind: Literal["throughput"]
    points: Points
    load: str = Field(min_length=1, description="Label of the load, e.g. `throughput`.")
    quantity: Rate = Field(default=Rate.OUTPUT_TOKENS, description="What is counted.")
    threshold: float = Field(gt=0, description="Least that passes, a second.")


class PerplexityCriterion(Frozen):
    """Perplexity per byte over that of the baseline: 2 to the difference in bits per byte."""

    kind: Literal["perplexity_ratio"]
    metric: Annotated[MetricName, AfterValidator(_bits_per_byte)] = Field(
        description="`task/bits_per_byte` of held-out text."
    )
    baseline: Evaluation = Field(description="`scores` and `samples` of the baseline.")
    variant: Evaluation = Field(description="`scores` and `samples` of the variant.")
    threshold: float = Field(gt=0, description="Largest ratio that passes.")


class ScoreCriterion(Frozen):
    """A score by itself; whether it has to be high or low, its task says."""

    kind: Literal["score"]
    metric: Metric
    evaluation: Evaluation = Field(description="`scores` and `samples` of an evaluate step.")
    threshold: float = Field(description="The score must be on the right side of it.")


Criterion = Annotated[
    RecoveryCriterion
    | AnalyzedRecoveryCriterion
    | SizeCriterion
    | LatencyCriterion
    | ThroughputCriterion
    | PerplexityCriterion
    | ScoreCriterion,
    Field(discriminator="kind"),
]


def limit_of(criterion: Criterion) -> Limit:
    """On which side of the threshold its number has to be; of a score, as its task says."""
    match criterion:
        case RecoveryCriterion() | AnalyzedRecoveryCriterion():
            return Limit.ABOVE
        case ThroughputCriterion():
            return Limit.AT_LEAST
        case ScoreCriterion():
            is_cost = any(
                score.higher_is_better is False
                for score in criterion.evaluation.scores
                if f"{score.task}/{score.label}" == criterion.metric
            )
            return Limit.AT_MOST if is_cost else Limit.AT_LEAST
        case SizeCriterion() | LatencyCriterion() | PerplexityCriterion():
            return Limit.AT_MOST


class GateSpec(Spec):
    """What has to hold before the work goes on."""

    criteria: dict[str, Criterion] = Field(
        min_length=1, description="By a name of yours; every one of them has to be passed."
    )
    inconclusive: Inconclusive = Field(
        default=Inconclusive.STOP,
        description="What an interval that says neither means: stop, or pass.",
    )
    stop: bool = Field(
        default=True,
        description="Skip the steps after a gate that was not passed; the run is unsuccessful "
        "either way.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Nominal coverage of the intervals."
    )
