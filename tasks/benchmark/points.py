"""From guidellm's report to load points: pure, and careful about what was not measured.

guidellm's own distributions put 0.0 where a request has no time to first token (a server that does
not stream), so a missing measurement would pass for a perfect one. Points are therefore computed
from its records of single requests, with its own definitions: where every request has the number,
mean and percentiles are equal to the report's.

- Times between tokens are each request's mean, weighted by its number of gaps.
- Percentiles are the smallest value whose cumulative weight reaches them.
- Rates are counts over the time from the first request sent to the last answer received.
- guidellm 0.8.1 loses the record of a request in one load of twelve or so; `num_lost` finds that
  out from its scheduler's books.

    load_point(benchmark, profile, repeat=0, index=0, service_level=None)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.benchmark.spec import LoadPoint, Percentiles, Profile, ServiceLevel

Request = Mapping[str, Any]
RANKS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


class UnusableLoad(ValueError):
    """A load that gave no measurement worth the name; says which and why."""


def load_point(
    benchmark: Mapping[str, Any],
    profile: Profile,
    *,
    repeat: int,
    index: int,
    service_level: ServiceLevel | None,
) -> LoadPoint:
    """One entry of a report's `benchmarks`; `index` counts the loads of a sweep.

    Raises UnusableLoad where no request succeeded, or none returned a token.
    """
    label = f"{profile.label} {index}" if profile.kind == "sweep" else profile.label
    requests = benchmark["requests"]
    successful, errored = requests["successful"], requests["errored"]
    if not successful:
        reasons = sorted({_reason(request) for request in errored}) or ["no request was finished"]
        raise UnusableLoad(f"load '{label}': no request succeeded: {'; '.join(reasons[:3])}")
    num_tokens = sum(request["output_tokens"] or 0 for request in successful)
    if not num_tokens:
        raise UnusableLoad(
            f"load '{label}': {len(successful)} requests were answered, no token came"
        )
    finished = [*successful, *errored]
    duration_s = max(request["request_end_time"] for request in finished) - min(
        request["request_start_time"] for request in finished
    )
    strategy = benchmark["config"]["strategy"]
    met = None if service_level is None else _met_fraction(successful, errored, service_level)
    return LoadPoint(
        load=label,
        kind=strategy["type_"],
        repeat=repeat,
        rate_per_s=strategy.get("rate"),
        concurrency=strategy.get("streams"),
        duration_s=duration_s,
        num_successful=len(successful),
        num_errored=len(errored),
        num_incomplete=len(requests["incomplete"]),
        num_lost=num_lost(benchmark),
        error_fraction=len(errored) / len(finished),
        requests_per_s=len(successful) / duration_s,
        output_tokens_per_s=num_tokens / duration_s,
        ttft_ms=_percentiles(successful, "time_to_first_token_ms"),
        itl_ms=_percentiles(successful, "inter_token_latency_ms", weight=_num_gaps),
        latency_s=_percentiles(successful, "request_latency"),
        slo_met_fraction=met,
        slo_met=None if met is None or service_level is None else met >= service_level.fraction,
    )


def num_lost(benchmark: Mapping[str, Any]) -> int:
    """Requests that the scheduler counted, or still waited for, and that have no record."""
    books, requests = benchmark["scheduler_state"], benchmark["requests"]
    return int(
        (books["successful_requests"] - len(requests["successful"]))
        + (books["errored_requests"] - len(requests["errored"]))
        + books["processing_requests"]
    )


def weighted_percentiles(values: Sequence[float], weights: Sequence[float]) -> Percentiles:
    """Mean and percentiles of values that count `weights` times each; at least one weight above 0.

    The p-th percentile is the smallest value at or below which lies a share of at least p.
    """
    pairs = sorted((value, weight) for value, weight in zip(values, weights, strict=True) if weight)
    total = math.fsum(weight for _, weight in pairs)
    found: dict[str, float] = {}
    cumulative = 0.0
    for value, weight in pairs:
        cumulative += weight
        for name, rank in RANKS.items():
            if name not in found and cumulative >= rank * total - 1e-9 * total:
                found[name] = value
    mean = math.fsum(value * weight for value, weight in pairs) / total
    return Percentiles(mean=mean, **found)


def _num_gaps(request: Request) -> float:
    return float((request["output_tokens"] or 1) - 1)


def _percentiles(
    requests: Sequence[Request], name: str, weight: Any = lambda _request: 1.0
) -> Percentiles | None:
    """None unless some request has the number; a request without it counts neither way."""
    measured = [request for request in requests if request[name] is not None and weight(request)]
    if not measured:
        return None
    values = [request[name] for request in measured]
    return weighted_percentiles(values, [weight(request) for request in measured])


def _met_fraction(
    successful: Sequence[Request], errored: Sequence[Request], level: ServiceLevel
) -> float | None:
    """Part of the requests that kept every limit; errors did not. None if one cannot be judged."""
    limits = {
        "time_to_first_token_ms": level.ttft_ms,
        "inter_token_latency_ms": level.itl_ms,
        "request_latency": level.latency_s,
    }
    judged = {name: limit for name, limit in limits.items() if limit is not None}
    if any(request[name] is None for request in successful for name in judged):
        return None
    kept = sum(
        all(request[name] <= limit for name, limit in judged.items()) for request in successful
    )
    return kept / (len(successful) + len(errored))


def _reason(request: Request) -> str:
    return str(request["info"].get("error") or "no reason given")
