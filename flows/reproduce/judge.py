"""A step then against the same step now: is each number and artifact as it should be? Pure.

    judged(Pair(then, now), samples_then, samples_now, given_alike=True, tolerance=0.25)

Expected are the very same bits where a step computes by itself on a CPU of the same model with the
same packages and code. Elsewhere floating-point sums have another order, and numbers have
`NUMBER_TOLERANCE`; a step that measures time has the tolerance that the user states.

Noise reproduces nothing. A timing is within its tolerance if its whole interval is (two one-sided
tests, Schuirmann 1987), outside if none of it is, else undecided; repeats without an interval are
judged by their medians. A score is of the same items, so the number itself is judged; where it
differs by more, and its interval holds "no difference", it is undecided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flows.compare.numbers import artifacts_in_result, numbers_in
from flows.compare.outcome import Outcome, none_of
from flows.compare.results import Asked, rows_of
from flows.compare.rows import Row
from flows.compare.subjects import Pair
from flows.compare.surroundings import Aspect, Difference, differences
from flows.experiment.measured import MeasuredStep
from flows.reproduce.record import (
    ArtifactCheck,
    Expectation,
    Likeness,
    NumberCheck,
    StepReproduction,
)
from tasks.analyze.comparison import PairedComparison
from tasks.analyze.repeats import RepeatComparison
from tasks.analyze.rows import Samples
from tasks.analyze.table import percent
from tasks.registry import step_of
from tasks.spec import DeviceKind

NUMBER_TOLERANCE = 0.01
TIMING_TOLERANCE = 0.25
ALPHA = 0.05  # of each one-sided test that a timing is within its tolerance
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
        verdict = Likeness.IDENTICAL
    elif given and pair.baseline.kind not in COMPUTING and not is_measured:
        verdict = Likeness.FOLLOWS
    elif expectation is Expectation.BITS:
        verdict = Likeness.OUTSIDE
    else:
        verdict = _worst(numbers)
    reasons = tuple(dict.fromkeys((*why_not_bits, *_circumstances(pair))))
    return StepReproduction(
        kind=pair.baseline.kind,
        expectation=expectation,
        verdict=verdict,
        reasons=reasons if verdict is not Likeness.IDENTICAL else (),
        numbers=numbers,
        artifacts=artifacts,
        seconds_before=pair.baseline.record.provenance.get("duration_s"),
        seconds_now=pair.other.record.provenance.get("duration_s"),
    )


def _worst(numbers: Iterable[NumberCheck]) -> Likeness:
    checks = list(numbers)
    if all(check.is_within for check in checks):
        return Likeness.WITHIN
    is_known = any(not check.is_within and not check.is_undecided for check in checks)
    return Likeness.OUTSIDE if is_known else Likeness.UNDECIDED


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
        is_timed = pair.baseline.kind == "benchmark"
        for row in rows_of(pair, *named, Asked(1 - 2 * ALPHA) if is_timed else Asked()):
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
    """What cannot be compared is not within."""
    is_near = is_within(row.baseline, row.other, tolerance)
    is_undecided, reason = False, None
    if row.outcome is Outcome.NOT_COMPARABLE:
        is_near, reason = False, f"not comparable: {row.reason}"
    elif row.repeats is not None:
        is_near, is_undecided, reason = _timing(row.repeats, is_near, tolerance)
    elif not is_near and row.paired is not None and _holds(row.paired, none_of(row.paired)):
        is_undecided, reason = True, f"{_interval(row.paired)} holds no difference"
    return NumberCheck(
        name=row.what,
        before=row.baseline,
        now=row.other,
        tolerance=tolerance,
        is_within=is_near,
        is_undecided=is_undecided,
        reason=reason,
    )


def _timing(
    found: RepeatComparison, is_near: bool, tolerance: float
) -> tuple[bool, bool, str | None]:
    """Whether the ratio now / then is within, whether that is undecided, and why."""
    if found.low is None or found.high is None:
        is_drifting = found.drift is not None and found.drift.is_found
        return is_near and not is_drifting, is_drifting, found.reason
    lowest, highest = 1 / (1 + tolerance), 1 + tolerance
    if lowest <= found.low and found.high <= highest:
        return True, False, None
    if found.high < lowest or found.low > highest:
        return False, False, None
    words = f"{_interval(found)} of their ratio is partly within {lowest:.3g} to {highest:.3g}"
    return False, True, f"{words}: {found.num_repeats} repeats are too few or too noisy to tell"


def _interval(found: RepeatComparison | PairedComparison) -> str:
    return f"the {percent(found.confidence)} interval {found.low:.3g} to {found.high:.3g}"


def _holds(found: PairedComparison, value: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= value <= found.high


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
        name for name in upstream if name in steps and steps[name].verdict is not Likeness.IDENTICAL
    ]
