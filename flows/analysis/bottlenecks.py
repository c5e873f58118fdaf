"""Where the time went: shares of the steps, and the chain of steps that nothing could shorten.

    path, seconds = critical_path({"a": 3.0, "b": 1.0}, {"b": ("a",)})      # (["a", "b"], 4.0)

Two times are told apart: what a step took in this run (a cached one next to nothing), and what its
result took when it was computed, as its record says. Only the second says what is slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from flows.experiment.record import StepState

NUM_SLOWEST = 3


def critical_path(
    seconds: Mapping[str, float], upstream: Mapping[str, Sequence[str]]
) -> tuple[list[str], float]:
    """The chain of dependent steps that takes longest, and its time in seconds.

    `seconds` must list each step after those that it waits for; one without a time counts nothing.
    """
    best: dict[str, tuple[float, list[str]]] = {}
    for name, taken in seconds.items():
        before = [best[up] for up in upstream.get(name, ()) if up in best]
        length, path = max(before, key=lambda found: found[0], default=(0.0, []))
        best[name] = (length + taken, [*path, name])
    length, path = max(best.values(), key=lambda found: found[0], default=(0.0, []))
    return path, length


def bottleneck_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Shares of the slowest steps, the critical path, and what the cache saved."""
    steps = evidence.report.steps
    computed = {
        name: float(evidence.records[name].provenance["duration_s"])
        for name in steps
        if name in evidence.records and "duration_s" in evidence.records[name].provenance
    }
    total = sum(computed.values())
    if total > 0:
        yield from _slowest(computed, total)
        path, length = critical_path(
            computed, {name: step.upstream for name, step in steps.items()}
        )
        yield Fact(
            kind=FactKind.BOTTLENECK,
            claim=f"the longest chain of dependent steps takes {digits(length)} s of "
            f"{digits(total)} s: {' → '.join(path)}; whatever runs side by side, a run from "
            "scratch waits for these",
            numbers={"critical_path_s": length, "steps_s": total, "num_steps": len(path)},
            source="durations in the steps' records, dependencies in run.json",
        )
    cached = [name for name, step in steps.items() if step.state is StepState.CACHED]
    saved = sum(computed.get(name, 0.0) for name in cached)
    wall = evidence.report.seconds
    if cached and wall is not None:
        yield Fact(
            kind=FactKind.BOTTLENECK,
            claim=f"this run took {digits(wall)} s, as {plural(len(cached), 'step')} of "
            f"{len(steps)} came from the cache; to compute them took {digits(saved)} s",
            numbers={
                "run_s": wall,
                "num_cached": len(cached),
                "num_steps": len(steps),
                "cached_s": saved,
            },
            source="run.json",
        )


def _slowest(computed: Mapping[str, float], total: float) -> Iterator[Fact]:
    slowest = sorted(computed, key=lambda name: (-computed[name], name))[:NUM_SLOWEST]
    for name in slowest:
        share = computed[name] / total
        yield Fact(
            kind=FactKind.BOTTLENECK,
            claim=f"{name} took {digits(computed[name])} s when it was computed, {share:.1%} of "
            f"the {digits(total)} s of all {plural(len(computed), 'step')}",
            numbers={
                "step_s": computed[name],
                "share": share,
                "steps_s": total,
                "num_steps": len(computed),
            },
            source=f"record of step {name}, provenance.duration_s",
        )
