"""What a benchmark is asked and what it answers: a served model under loads, repeated.

    BenchmarkSpec(
        model="runs/model",
        workload="chat",  # or {"prompt_tokens": 64, "output_tokens": 32}
        profiles=[{"kind": "synchronous"}, {"kind": "concurrent", "streams": 4}],
        num_requests=24,
        repeats=3,
    )

A benchmark measures the world: the class of the hardware and the occasion belong to its identity,
so that no machine answers for another and no night for the next. One `LoadPoint` is one load in one
repeat; repeats are the unit of statistics, requests within one are not independent.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.artifacts import ArtifactKind, ArtifactRef, Input
from tasks.benchmark.hardware import THIS_MACHINE, HardwareClass
from tasks.benchmark.workload import WorkloadOrName
from tasks.serving.options import ServerOptions
from tasks.spec import Frozen, Result
from tasks.standards import StandardKind
from tasks.standards.use import StandardSpec


class Synchronous(Frozen):
    """One request at a time: the latency of an idle server."""

    kind: Literal["synchronous"] = "synchronous"

    @property
    def label(self) -> str:
        return "synchronous"


class Concurrent(Frozen):
    """A fixed number of clients, each of which sends its next request when one is answered."""

    kind: Literal["concurrent"] = "concurrent"
    streams: int = Field(ge=1, description="Clients.")

    @property
    def label(self) -> str:
        return f"concurrent {self.streams}"


class Throughput(Frozen):
    """All requests at once: what the server can do at most."""

    kind: Literal["throughput"] = "throughput"
    max_concurrency: int | None = Field(
        default=None, ge=1, description="Requests in flight at most; None is no limit."
    )

    @property
    def label(self) -> str:
        limit = f" {self.max_concurrency}" if self.max_concurrency else ""
        return f"throughput{limit}"


class ConstantRate(Frozen):
    """Requests at equal distances in time, whether earlier ones were answered or not."""

    kind: Literal["constant"] = "constant"
    rate_per_s: float = Field(gt=0, description="Requests a second.")

    @property
    def label(self) -> str:
        return f"constant {self.rate_per_s:g}/s"


class PoissonRate(Frozen):
    """Requests at random, independent of one another: what many users look like."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: float = Field(gt=0, description="Requests a second on average.")

    @property
    def label(self) -> str:
        return f"poisson {self.rate_per_s:g}/s"


class Sweep(Frozen):
    """Synchronous, throughput, then rates spaced evenly between what these two served."""

    kind: Literal["sweep"] = "sweep"
    num_loads: int = Field(default=10, ge=3, description="Loads in all, the first two included.")
    arrivals: Literal["constant", "poisson"] = Field(
        default="constant", description="How requests arrive at each rate."
    )

    @property
    def label(self) -> str:
        return "sweep"


Profile = Annotated[
    Synchronous | Concurrent | Throughput | ConstantRate | PoissonRate | Sweep,
    Field(discriminator="kind"),
]


class ServiceLevel(Frozen):
    """What a request must keep to, and how many must: 0.99 is a limit on the 99th percentile."""

    ttft_ms: float | None = Field(default=None, gt=0, description="Time to first token at most.")
    itl_ms: float | None = Field(
        default=None, gt=0, description="Mean time between the tokens of a request at most."
    )
    latency_s: float | None = Field(default=None, gt=0, description="Time to last token at most.")
    fraction: float = Field(
        default=0.99, gt=0, le=1, description="Part of the requests, errors included, that must."
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.ttft_ms is None and self.itl_ms is None and self.latency_s is None:
            raise ValueError("give at least one of ttft_ms, itl_ms and latency_s")
        return self


class BenchmarkSpec(StandardSpec):
    """Everything that may change how fast a served model answers."""

    standard_kind = StandardKind.BENCHMARKING

    model: Annotated[Input, ArtifactKind.MODEL] = Field(
        description="Model folder in Hugging Face layout, with a chat template."
    )
    workload: WorkloadOrName = Field(
        description="Tokens of a request, or the name of a standard of which only these are taken."
    )
    profiles: tuple[Profile, ...] = Field(
        default=(Synchronous(), Concurrent(streams=4), Throughput()),
        min_length=1,
        description="Loads to measure; each is measured once in every repeat.",
    )
    num_requests: int | None = Field(
        default=None, ge=1, description="Requests after which a load ends."
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time after which a load ends; requests in flight count as incomplete.",
    )
    warmup_requests: int = Field(
        default=8, ge=0, description="Requests sent first, four at a time, and not measured."
    )
    repeats: int = Field(default=3, ge=1, description="How often every load is measured.")
    seed: int = Field(
        default=42, ge=0, description="Of prompts and arrivals; each load and repeat has its own."
    )
    request_timeout_s: float = Field(
        default=21600.0, gt=0, description="A request that gets no byte for so long is an error."
    )
    max_error_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="The step fails if more of a load's requests do."
    )
    service_level: ServiceLevel | None = Field(
        default=None, description="Latencies that users expect; each load is judged by them."
    )
    server: ServerOptions = Field(
        default_factory=ServerOptions, description="How the vLLM server is set up."
    )
    hardware: HardwareClass = Field(
        default=THIS_MACHINE,
        validate_default=True,
        description="Class of the hardware that is measured; the step fails on any other.",
    )
    occasion: str = Field(
        default="", description="Why it is measured again, e.g. the date of a nightly run."
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.num_requests is None and self.max_seconds is None:
            raise ValueError("give num_requests, max_seconds or both, or a load would never end")
        return self

    @model_validator(mode="after")
    def _loads_differ(self) -> Self:
        labels = [profile.label for profile in self.profiles]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"profiles are listed twice: {', '.join(doubled)}; see `repeats`")
        return self

    @model_validator(mode="after")
    def _fits_the_server(self) -> Self:
        longest, limit = self.num_tokens_at_most, self.server.max_model_len
        if limit is not None and longest > limit:
            raise ValueError(
                f"a request may have {longest} tokens, but server.max_model_len is {limit}"
            )
        return self

    @property
    def num_tokens_at_most(self) -> int:
        """Prompt and output of the longest request, without its chat template."""
        return self.workload.prompt_tokens.most + self.workload.output_tokens.most


class Percentiles(Frozen):
    """Of one quantity over the successful requests of a load; percentiles are nearest-rank."""

    mean: float = Field(ge=0, description="Arithmetic mean.")
    p50: float = Field(ge=0, description="Half are at or below this.")
    p90: float = Field(ge=0, description="90% are at or below this.")
    p95: float = Field(ge=0, description="95% are at or below this.")
    p99: float = Field(ge=0, description="99% are at or below this.")


class LoadPoint(Frozen):
    """One load in one repeat. What could not be measured is absent, never zero."""

    load: str = Field(description="Label of the load; equal in all repeats.")
    kind: str = Field(description="How requests were sent: synchronous, concurrent, …")
    repeat: int = Field(ge=0, description="Counted from 0.")
    rate_per_s: float | None = Field(default=None, gt=0, description="Rate asked for.")
    concurrency: int | None = Field(default=None, ge=1, description="Clients asked for.")
    duration_s: float = Field(gt=0, description="First request sent to last answer received.")
    num_successful: int = Field(ge=1, description="Requests answered in full.")
    num_errored: int = Field(ge=0, description="Requests that failed.")
    num_incomplete: int = Field(ge=0, description="Requests cut off by the end of the load.")
    num_lost: int = Field(
        default=0, ge=0, description="Requests whose records the load generator lost."
    )
    error_fraction: float = Field(ge=0, le=1, description="Errored, of errored and successful.")
    requests_per_s: float = Field(gt=0, description="Successful requests over the duration.")
    output_tokens_per_s: float = Field(
        gt=0, description="Output tokens of successful requests over the duration."
    )
    ttft_ms: Percentiles | None = Field(description="Time to first token.")
    itl_ms: Percentiles | None = Field(
        description="Time between tokens: each request's mean, weighted by its number of gaps."
    )
    latency_s: Percentiles | None = Field(description="Time to last token.")
    slo_met_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Part of the requests that kept to the service level."
    )
    slo_met: bool | None = Field(default=None, description="Whether enough of them did.")


class BenchmarkResult(Result):
    """How fast the model was served."""

    points: tuple[LoadPoint, ...] = Field(min_length=1, description="In the order measured.")
    hardware: str = Field(description="Class of the hardware that was found.")
    server_startup_s: float = Field(gt=0, description="From starting the server to its answer.")
    report: ArtifactRef = Field(description="Folder with guidellm's own reports, JSON.")
    server_log: ArtifactRef = Field(description="What the vLLM server wrote.")
