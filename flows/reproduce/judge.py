"""A step then against the same step now: is each number and artifact as it should be? Pure.

    judged(Pair(then, now), samples_then, samples_now, given_alike=True, tolerance=0.25)

Expected are the very same bits where a step computes by itself on a CPU of the same model with the
same packages and code. Elsewhere floating-point sums have another order, and numbers have
`NUMBER_TOLERANCE`; a step that measures time has the tolerance that the user states. Where
a number comes with an interval, one that holds "no difference" is within, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flows.compare.numbers import artifacts_in_result, numbers_in
from flows.compare.results import rows_of
from flows.compare.rows import Outcome, Row
from flows.compare.subjects import MeasuredStep, Pair
from flows.compare.surroundings import Aspect, Difference, differences
from flows.reproduce.record import (
    ArtifactCheck,
    Expectation,
    NumberCheck,
    StepReproduction,
    Verdict,
)
from tasks.analyze.rows import Samples
from tasks.registry import step_of
from tasks.spec import DeviceKind

NUMBER_TOLERANCE = 0.01
TIMING_TOLERANCE = 0.25
COMPUTING = ("compress", "evaluate", "train")  # whose floating point depends on where they run
MACHINE = ("cpu_model", "architecture", "gpu_models")


def judged(
    pair: Pair,
    samples: tuple[Samples, Samples],
    *,
    inputs_that_differ: Iterable[str] = (),
    tolerance: float = TIMING_TOLERANCE,
) -> StepReproduction:
    """The verdict; `inputs_that_differ` names the steps before it that were not identical."""
    given = tuple(inputs_that_differ)
    why_not_bits = list(_why_not_bits(pair, given))
    expectation = Expectation.BITS
    if step_of(pair.baseline.kind).measures:
        expectation, why_not_bits = Expectation.MEASURED, []
    elif why_not_bits:
        expectation = Expectation.NUMBERS
    artifacts = tuple(_artifacts(pair))
    allowed = {Expectation.BITS: 0.0, Expectation.NUMBERS: NUMBER_TOLERANCE}
    numbers = tuple(_numbers(pair, samples, expectation, allowed.get(expectation, tolerance)))
    is_measured = expectation is Expectation.MEASURED
    is_identical = all(check.is_identical for check in artifacts) and all(
        check.before == check.now for check in numbers
    )
    if is_identical and not is_measured:
        verdict = Verdict.IDENTICAL
    elif given and pair.baseline.kind not in COMPUTING and not is_measured:
        verdict = Verdict.FOLLOWS
    elif expectation is Expectation.BITS:
        verdict = Verdict.OUTSIDE
    else:
        verdict = Verdict.WITHIN if all(c.is_within for c in numbers) else Verdict.OUTSIDE
    reasons = tuple(dict.fromkeys((*why_not_bits, *_circumstances(pair))))
    return StepReproduction(
        kind=pair.baseline.kind,
        expectation=expectation,
        verdict=verdict,
        reasons=reasons if verdict is not Verdict.IDENTICAL else (),
        numbers=numbers,
        artifacts=artifacts,
        seconds_before=pair.baseline.record.provenance.get("duration_s"),
        seconds_now=pair.other.record.provenance.get("duration_s"),
    )


def _why_not_bits(pair: Pair, given: tuple[str, ...]) -> Iterator[str]:
    """Reasons for which other bits are no fault of the step's."""
    spec = pair.baseline.record.spec
    if given:
        yield f"its inputs differ: {', '.join(given)}"
    if spec.get("device_kind") == DeviceKind.CUDA:
        yield "computed on a GPU"
    if spec.get("backend") == "vllm":
        yield "a server forms its batches as requests come"
    if pair.baseline.kind in COMPUTING:
        yield from _circumstances(pair)


def _circumstances(pair: Pair) -> Iterator[str]:
    yield from (str(item) for item in differences([pair]) if _moves_bits(item))
    if code_differs(pair):
        yield "the code of the step changed since"


def _moves_bits(item: Difference) -> bool:
    is_package = item.aspect is Aspect.VERSIONS and item.what not in ("labwright", "core lock")
    return is_package or item.what in MACHINE


def code_differs(pair: Pair) -> bool:
    """Whether the same spec, inputs and versions have another identity now."""
    then, now = pair.baseline.record, pair.other.record
    is_same_question = then.spec == now.spec
    return is_same_question and then.identity != now.identity and not _versions_differ(pair)


def _versions_differ(pair: Pair) -> bool:
    then, now = (s.record.provenance.get("versions", {}) for s in (pair.baseline, pair.other))
    packages = {*then, *now} - {"labwright"}
    return any(then.get(package) != now.get(package) for package in packages)


# -- artifacts and numbers -------------------------------------------------------------


def _artifacts(pair: Pair) -> Iterator[ArtifactCheck]:
    before, now = (
        dict(artifacts_in_result(side.record.result)) for side in (pair.baseline, pair.other)
    )
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        yield ArtifactCheck(
            name=name, before=old.digest if old else None, now=new.digest if new else None
        )


def _numbers(
    pair: Pair, samples: tuple[Samples, Samples], expectation: Expectation, tolerance: float
) -> Iterator[NumberCheck]:
    is_compared = pair.baseline.kind in ("evaluate", "benchmark")
    if is_compared and expectation is not Expectation.BITS:
        named = ({pair.baseline.name: samples[0]}, {pair.other.name: samples[1]})
        for row in rows_of(pair, *named):
            yield _of_row(row, tolerance)
        return
    yield from _of_results(pair.baseline, pair.other, tolerance)


def _of_results(before: MeasuredStep, now: MeasuredStep, tolerance: float) -> Iterator[NumberCheck]:
    old, new = dict(numbers_in(before.record.result)), dict(numbers_in(now.record.result))
    for name in dict.fromkeys((*old, *new)):
        yield NumberCheck(
            name=name,
            before=old.get(name),
            now=new.get(name),
            tolerance=tolerance,
            is_within=is_within(old.get(name), new.get(name), tolerance),
        )


def _of_row(row: Row, tolerance: float) -> NumberCheck:
    """What has an interval may also be within it; what cannot be compared is not within."""
    is_near = is_within(row.baseline, row.other, tolerance)
    reason = None
    if row.outcome is Outcome.NOT_COMPARABLE:
        is_near, reason = False, f"not comparable: {row.reason}"
    elif not is_near and _interval_holds_no_difference(row):
        is_near, reason = True, "its interval holds no difference"
    return NumberCheck(
        name=row.what,
        before=row.baseline,
        now=row.other,
        tolerance=tolerance,
        is_within=is_near,
        reason=reason,
    )


def _interval_holds_no_difference(row: Row) -> bool:
    found, none = (row.repeats, 1.0) if row.repeats else (row.paired, 0.0)
    if found is None or found.low is None or found.high is None:
        return False
    return found.low <= none <= found.high


def is_within(before: float | None, now: float | None, tolerance: float) -> bool:
    """Whether neither is more than `tolerance` above the other, as a share of the smaller."""
    if before is None or now is None:
        return before is now
    if before == now:
        return True
    small, large = sorted((abs(before), abs(now)))
    return (before > 0) == (now > 0) and small > 0 and large <= small * (1 + tolerance)


def differing(steps: Mapping[str, StepReproduction], upstream: Iterable[str]) -> list[str]:
    """Steps before one that did not come out bit for bit."""
    return [
        name for name in upstream if name in steps and steps[name].verdict is not Verdict.IDENTICAL
    ]
