"""A gate passes what is beyond its threshold for sure, and never what is missing."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.analyze.comparison import Statistic
from tasks.analyze.paired import PairedItems, compare_paired
from tasks.analyze.rows import Sample, compare_variants, parse_samples, read_samples
from tasks.analyze.spec import Evaluation, Variant
from tasks.artifacts import ArtifactKind, ArtifactRef, describe
from tasks.benchmark.spec import LoadPoint, Percentiles
from tasks.body import BodyContext
from tasks.evaluate.spec import Score, ScorePart
from tasks.gate import measures
from tasks.gate.body import main
from tasks.gate.check import check
from tasks.gate.judge import Measured, gate_result, judge, judged, num_more_needed
from tasks.gate.spec import GateSpec, Inconclusive
from tasks.verdict import CriterionVerdict, GateResult, Limit, Verdict

Finite = st.floats(-1e6, 1e6)
Anything = st.none() | st.floats(allow_nan=True, allow_infinity=True)
Limits = st.sampled_from(Limit)


# -- verdicts ------------------------------------------------------------------------------


@given(ends=st.tuples(Finite, Finite, Finite).map(sorted), threshold=Finite, limit=Limits)
def test_a_verdict_is_the_side_of_the_threshold_that_the_whole_interval_lies_on(
    ends: list[float], threshold: float, limit: Limit
) -> None:
    low, number, high = ends
    verdict = judge(Measured(number, low, high), limit, threshold)
    if low < threshold < high:
        assert verdict is Verdict.INCONCLUSIVE
    elif threshold not in (low, high):
        is_above = low > threshold
        is_wanted = is_above is not (limit is Limit.AT_MOST)
        assert verdict is (Verdict.PASSED if is_wanted else Verdict.FAILED)


@given(number=Anything, low=Anything, high=Anything, threshold=Finite, limit=Limits)
def test_what_has_no_finite_number_and_interval_is_never_passed_and_never_failed(
    number: float | None, low: float | None, high: float | None, threshold: float, limit: Limit
) -> None:
    verdict = judge(Measured(number, low, high), limit, threshold)
    has = [value is not None and math.isfinite(value) for value in (number, low, high)]
    if not has[0]:
        assert verdict is Verdict.MISSING
    elif not all(has):
        assert verdict is Verdict.INCONCLUSIVE


@given(ends=st.tuples(Finite, Finite, Finite).map(sorted), one=Finite, other=Finite)
def test_a_stricter_threshold_never_passes_what_a_looser_one_does_not(
    ends: list[float], one: float, other: float
) -> None:
    found = Measured(ends[1], ends[0], ends[2])
    loose, strict = sorted((one, other))
    for limit in (Limit.ABOVE, Limit.AT_LEAST):
        if judge(found, limit, strict) is Verdict.PASSED:
            assert judge(found, limit, loose) is Verdict.PASSED
    if judge(found, Limit.AT_MOST, loose) is Verdict.PASSED:
        assert judge(found, Limit.AT_MOST, strict) is Verdict.PASSED


def test_recovery_at_its_threshold_is_not_above_it_and_a_size_at_its_limit_passes() -> None:
    exact = Measured(0.99, 0.99, 0.99)
    assert judge(exact, Limit.ABOVE, 0.99) is Verdict.INCONCLUSIVE
    assert judge(exact, Limit.AT_MOST, 0.99) is Verdict.PASSED
    assert judge(exact, Limit.AT_LEAST, 0.99) is Verdict.PASSED


@given(number=st.floats(0.5, 1.5), half=st.floats(0.001, 1.0), threshold=st.floats(0.5, 1.5))
def test_the_items_said_to_be_needed_would_settle_it_if_the_number_holds(
    number: float, half: float, threshold: float
) -> None:
    found = Measured(number, number - half, number + half, num_units=100)
    more = num_more_needed(found, threshold, 0.95)
    if judge(found, Limit.ABOVE, threshold) is not Verdict.INCONCLUSIVE or more is None:
        return
    shrunk = half * math.sqrt(100 / (100 + more))
    then = judge(Measured(number, number - shrunk, number + shrunk), Limit.ABOVE, threshold)
    assert then is (Verdict.PASSED if number > threshold else Verdict.FAILED)


def test_a_number_on_its_threshold_needs_no_number_of_items() -> None:
    assert num_more_needed(Measured(0.99, 0.9, 1.1, 50), 0.99, 0.95) is None


def verdict(kind: Verdict) -> CriterionVerdict:
    found = {
        Verdict.PASSED: Measured(1.0, 1.0, 1.0),
        Verdict.FAILED: Measured(0.0, 0.0, 0.0),
        Verdict.INCONCLUSIVE: Measured(0.5, 0.0, 1.0),
        Verdict.MISSING: Measured(None),
    }[kind]
    return judged("score", "it", found, Limit.AT_LEAST, 0.5, 0.95)


@given(st.lists(st.sampled_from(Verdict), min_size=1), st.sampled_from(Inconclusive), st.booleans())
def test_a_gate_is_passed_by_passed_criteria_and_by_inconclusive_ones_only_where_it_says_so(
    kinds: list[Verdict], policy: Inconclusive, stop: bool
) -> None:
    result = gate_result({str(n): verdict(k) for n, k in enumerate(kinds)}, policy, stop)
    good = {Verdict.PASSED} | ({Verdict.INCONCLUSIVE} if policy is Inconclusive.PASS else set())
    assert result.passed is (set(kinds) <= good)
    assert result.stops is (stop and not result.passed)
    assert result.verdict is min(kinds, key=list(Verdict).index)


# -- recovery, perplexity and scores, from samples -----------------------------------------


def write_samples(
    path: Path, values: Sequence[float], task: str = "text", metric: str = "acc", first: int = 0
) -> ArtifactRef:
    lines = [
        {
            "task": task,
            "metric": metric,
            "item": f"item{first + n}",
            "numerator": value,
            "denominator": 1,
        }
        for n, value in enumerate(values)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return describe(path, ArtifactKind.SAMPLES, path.name)


class Bench:
    """Evaluations that were written down, and a gate that reads them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._inputs: dict[str, str] = {}
        self._numbers = itertools.count()

    def evaluation(
        self,
        values: Sequence[float],
        *,
        metric: str = "acc",
        first: int = 0,
        higher_is_better: bool | None = True,
    ) -> Evaluation:
        path = self.folder / f"{next(self._numbers)}.jsonl"
        ref = write_samples(path, values, metric=metric, first=first)
        self._inputs[ref.digest] = str(path)
        score = Score(
            task="text",
            metric=metric,
            value=sum(values) / max(1, len(values)),
            num_items=max(1, len(values)),
            higher_is_better=higher_is_better,
        )
        return Evaluation(scores=(score,), samples=ref)

    def judge(self, **criterion: object) -> CriterionVerdict:
        spec = GateSpec.model_validate({"criteria": {"it": criterion}})
        out = self.folder / f"out{next(self._numbers)}"
        out.mkdir()
        result = main(spec, BodyContext(out, self.folder, self._inputs))
        result = GateResult.model_validate_json(result.model_dump_json())
        check(spec, result, lambda _: self.folder)
        return result.criteria["it"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def answers(num_items: int, accuracy: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < accuracy) for _ in range(num_items)]


def test_recovery_passes_fails_and_says_how_many_more_items_it_needs(bench: Bench) -> None:
    base = answers(400, 0.8)
    worse = [value if n % 4 else 0.0 for n, value in enumerate(base)]
    slightly = [0.0 if n in (base.index(1.0), 399) else value for n, value in enumerate(base)]

    def of(variant: list[float], threshold: float = 0.99) -> CriterionVerdict:
        return bench.judge(
            kind="recovery",
            metric="text/acc",
            baseline=bench.evaluation(base),
            variant=bench.evaluation(variant),
            threshold=threshold,
        )

    assert of(base, 0.97).verdict is Verdict.PASSED
    failed = of(worse)
    assert failed.verdict is Verdict.FAILED
    assert failed.high is not None
    assert failed.high < 0.99
    unsure = of(slightly)
    assert unsure.verdict is Verdict.INCONCLUSIVE
    assert unsure.num_more_needed is not None
    assert f"needs about {unsure.num_more_needed} more items" in unsure.words
    assert unsure.low is not None
    assert unsure.low <= 0.99


@pytest.mark.parametrize("seed", range(5))
def test_recovery_is_that_of_the_analysis(bench: Bench, seed: int) -> None:
    base, variant = answers(60, 0.7, seed), answers(60, 0.65, seed + 100)
    found = bench.judge(
        kind="recovery",
        metric="text/acc",
        baseline=bench.evaluation(base),
        variant=bench.evaluation(variant),
    )
    expected = compare_paired(PairedItems.of(base, variant), Statistic.RECOVERY)
    assert (found.number, found.low, found.high) == (expected.estimate, expected.low, expected.high)


def test_recovery_of_an_average_is_paired_within_its_tasks(bench: Bench) -> None:
    def evaluation(accuracy: float, **fields: object) -> Evaluation:
        one = bench.evaluation(answers(400, accuracy))
        part = ScorePart(task="text", metric="acc", factor=1.0, random_score=0.25, items="text")
        group = Score(
            task="g/all",
            metric="average",
            value=(one.scores[0].value - 0.25) / 0.75,
            num_items=400,
            higher_is_better=True,
            parts=(part.model_copy(update=fields),),
        )
        return Evaluation(scores=(*one.scores, group), samples=one.samples)

    def of(variant: Evaluation, threshold: float = 0.99) -> CriterionVerdict:
        return bench.judge(
            kind="recovery",
            metric="g/all/average",
            baseline=evaluation(0.8),
            variant=variant,
            threshold=threshold,
        )

    assert of(evaluation(0.8), 0.97).verdict is Verdict.PASSED
    assert of(evaluation(0.6)).verdict is Verdict.FAILED
    assert of(evaluation(0.0)).verdict is Verdict.FAILED  # as bad as can be is not missing
    assert of(evaluation(0.79)).verdict is Verdict.INCONCLUSIVE
    clamped = of(evaluation(0.8, is_clamped=True))
    assert clamped.verdict is Verdict.MISSING
    assert "text is below guessing and counts as 0" in clamped.words
    lost = of(bench.evaluation(answers(400, 0.8)))
    assert "the variant has no g/all/average" in lost.words


def test_an_average_where_lower_is_better_is_missing_and_not_passed_for_its_errors(
    bench: Bench,
) -> None:
    def evaluation(errors: float) -> Evaluation:
        one = bench.evaluation(answers(400, errors), higher_is_better=False)
        part = ScorePart(task="text", metric="acc", factor=1.0, items="text")
        group = one.scores[0].model_copy(update={"task": "g", "parts": (part,)})
        return Evaluation(scores=(*one.scores, group), samples=one.samples)

    found = bench.judge(
        kind="recovery",
        metric="g/acc",
        baseline=evaluation(0.5),
        variant=evaluation(0.8),
        threshold=0.99,
    )
    assert found.verdict is Verdict.MISSING
    assert "where higher is better" in found.words


def test_lower_is_better_where_the_task_says_so(bench: Bench) -> None:
    rng = random.Random(1)
    base = [rng.uniform(1, 3) for _ in range(80)]
    for factor, expected in ((0.9, Verdict.PASSED), (1.1, Verdict.FAILED)):
        found = bench.judge(
            kind="recovery",
            metric="text/bits",
            baseline=bench.evaluation(base, metric="bits", higher_is_better=False),
            variant=bench.evaluation(
                [factor * value for value in base], metric="bits", higher_is_better=False
            ),
        )
        assert found.verdict is expected


def test_missing_data_of_every_kind_is_missing_in_words(bench: Bench) -> None:
    good = bench.evaluation(answers(100, 0.8))
    cases = {
        "did you mean 'text/acc'?": {"metric": "text/ac", "baseline": good, "variant": good},
        "there are text/acc": {"metric": "other/f1", "baseline": good, "variant": good},
        "items were answered by one of the two only": {
            "metric": "text/acc",
            "baseline": good,
            "variant": bench.evaluation(answers(100, 0.8), first=100),
        },
        "the variant has no items of text/acc": {
            "metric": "text/acc",
            "baseline": good,
            "variant": bench.evaluation([]),
        },
        "at or below zero": {
            "metric": "text/acc",
            "baseline": bench.evaluation([0.0] * 100),
            "variant": good,
        },
        "whether higher is better": {
            "metric": "text/acc",
            "baseline": bench.evaluation(answers(100, 0.8), higher_is_better=None),
            "variant": good,
        },
    }
    for words, fields in cases.items():
        found = bench.judge(kind="recovery", **fields)
        assert found.verdict is Verdict.MISSING, words
        assert found.number is None
        assert words in found.words


def test_items_too_few_for_an_interval_are_inconclusive_however_good(bench: Bench) -> None:
    few = bench.evaluation([1.5, 2.5, 3.5])
    found = bench.judge(kind="recovery", metric="text/acc", baseline=few, variant=few)
    assert (found.verdict, found.number) == (Verdict.INCONCLUSIVE, 1.0)
    assert "too few for an interval" in found.words


def test_an_analysis_answers_as_the_samples_do(bench: Bench) -> None:
    evaluations = {
        "base": bench.evaluation(answers(100, 0.8)),
        "w8": bench.evaluation(answers(100, 0.8, seed=0)),
    }
    samples = {
        name: read_samples(parse_samples((bench.folder / one.samples.name).open()))
        for name, one in evaluations.items()
    }
    variants = {name: Variant(evaluations=(one,)) for name, one in evaluations.items()}
    rows = compare_variants("base", variants, samples, 0.95)
    direct = bench.judge(
        kind="recovery",
        metric="text/acc",
        baseline=evaluations["base"],
        variant=evaluations["w8"],
        threshold=0.9,
    )
    analyzed = {"kind": "analyzed_recovery", "rows": rows, "metric": "text/acc", "threshold": 0.9}
    found = bench.judge(variant="w8", **analyzed)
    assert (found.verdict, found.low) == (direct.verdict, direct.low)
    loose = compare_variants("base", variants, samples, 0.6)
    weak = bench.judge(variant="w8", **{**analyzed, "rows": loose})
    assert weak.verdict is Verdict.MISSING
    assert "intervals of 0.6 confidence, the gate asks for 0.95" in weak.words
    lost = bench.judge(variant="w9", **analyzed)
    assert lost.verdict is Verdict.MISSING
    assert "no variant 'w9'; there are base, w8" in lost.words


def test_perplexity_per_byte_is_two_to_the_difference_in_bits(bench: Bench) -> None:
    rng = random.Random(2)
    base = [rng.uniform(1, 3) for _ in range(200)]
    variant = [value + 0.1 + rng.uniform(-0.01, 0.01) for value in base]
    name = "bits_per_byte"
    fields = {
        "kind": "perplexity_ratio",
        "metric": f"text/{name}",
        "baseline": bench.evaluation(base, metric=name, higher_is_better=False),
        "variant": bench.evaluation(variant, metric=name, higher_is_better=False),
    }
    found = bench.judge(**fields, threshold=1.15)
    assert found.verdict is Verdict.PASSED
    assert found.number == pytest.approx(2**0.1, rel=0.01)
    assert bench.judge(**fields, threshold=1.02).verdict is Verdict.FAILED


def test_a_score_of_right_and_wrong_items_has_the_exact_interval() -> None:
    samples = {f"{n}": Sample(float(n < 8), 1.0, None) for n in range(10)}
    score = Score(task="t", metric="acc", value=0.8, num_items=10)
    found = measures.score(score, samples, 0.95)
    assert found.number == 0.8
    # Clopper & Pearson for 8 of 10, as tables have it.
    assert (found.low, found.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    perfect = measures.score(
        score, {n: s._replace(numerator=1.0) for n, s in samples.items()}, 0.95
    )
    assert perfect.low == pytest.approx(0.6915, abs=1e-4)
    assert perfect.high == 1.0


def test_items_of_few_sources_do_not_count_as_independent() -> None:
    alone = {f"{n}": Sample(float(n % 100 < 75), 1.0, None) for n in range(1000)}
    grouped = {name: one._replace(cluster=f"{int(name) % 100}") for name, one in alone.items()}
    score = Score(task="t", metric="acc", value=0.75, num_items=1000)
    narrow, wide = (measures.score(score, samples, 0.95) for samples in (alone, grouped))
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_a_score_of_items_of_any_size_has_an_interval_from_thirty_on() -> None:
    rng = random.Random(1)
    items = {f"{n}": Sample(rng.lognormvariate(0, 0.5), 1.0, None) for n in range(30)}
    score = Score(task="t", metric="nats", value=1.0, num_items=30)
    found = measures.score(score, items, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low < math.exp(0.125) < found.high
    few = measures.score(score, dict(list(items.items())[:29]), 0.95)
    assert not few.has_interval
    assert "needs at least 1 more" in few.reason


def test_a_score_without_items_has_the_exact_interval_of_as_many_as_its_error_tells() -> None:
    score = Score(task="t", metric="acc", value=0.5, stderr=0.025, num_items=1000)
    found = measures.score(score, None, 0.95)
    # Clopper & Pearson for 200 of 400, as tables have it.
    assert (found.low, found.high) == pytest.approx((0.4499, 0.5501), abs=1e-4)
    for lacking in ({"stderr": None}, {"stderr": 0.0}, {"num_items": 50}):
        assert not measures.score(score.model_copy(update=lacking), None, 0.95).has_interval


def test_a_score_must_be_low_where_lower_is_better(bench: Bench) -> None:
    rng = random.Random(3)
    values = [rng.uniform(1, 3) for _ in range(120)]
    for higher_is_better, expected in ((False, Verdict.FAILED), (True, Verdict.PASSED)):
        evaluation = bench.evaluation(values, higher_is_better=higher_is_better)
        found = bench.judge(kind="score", metric="text/acc", evaluation=evaluation, threshold=1.5)
        assert found.verdict is expected


# -- sizes, latencies and rates ------------------------------------------------------------


@pytest.mark.parametrize("lost", ["size_bytes", "base_size_bytes"])
def test_a_size_that_is_not_there_is_missing(bench: Bench, lost: str) -> None:
    sizes: dict[str, object] = {"size_bytes": 50, "base_size_bytes": 100}
    size = {"kind": "size_ratio", "threshold": 0.5}
    assert bench.judge(**size, **sizes).verdict is Verdict.PASSED
    assert bench.judge(**size, **{**sizes, lost: None}).verdict is Verdict.MISSING
    assert bench.judge(**size, **{**sizes, lost: 0}).verdict is Verdict.MISSING


def point(
    repeat: int, ttft_ms: float | None, *, errors: int = 0, cut_off: int = 0, good: int = 100
) -> LoadPoint:
    """p50 to p90 are `ttft_ms`, p95 a millisecond more and p99 two."""
    spread = None
    if ttft_ms is not None:
        tail = {"p95": ttft_ms + 1, "p99": ttft_ms + 2}
        spread = Percentiles(mean=ttft_ms, p50=ttft_ms, p90=ttft_ms, **tail)
    return LoadPoint(
        load="concurrent 4",
        kind="concurrent",
        repeat=repeat,
        duration_s=1.0,
        num_successful=good,
        num_errored=errors,
        num_incomplete=cut_off,
        error_fraction=errors / (errors + good),
        requests_per_s=1.0,
        output_tokens_per_s=100.0 + repeat,
        ttft_ms=spread,
        itl_ms=None,
        latency_s=None,
    )


SLO = {"kind": "latency", "load": "concurrent 4", "quantity": "ttft_ms", "percentile": "p99"}


def test_a_latency_is_judged_over_repeats(bench: Bench) -> None:
    points = [point(n, 100.0 + n) for n in range(4)]
    assert bench.judge(**SLO, points=points, threshold=120).verdict is Verdict.PASSED
    assert bench.judge(**SLO, points=points, threshold=90).verdict is Verdict.FAILED
    unsure = bench.judge(**SLO, points=points, threshold=104)
    assert unsure.verdict is Verdict.INCONCLUSIVE
    assert "more repeats" in unsure.words
    assert bench.judge(**SLO, points=points[:1], threshold=1e9).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([point(0, 100.0), point(1, None)], "repeat 1 has no ttft_ms"),
        ([point(0, 100.0), point(1, 100.0, errors=5)], "5 of 105 requests of repeat 1 did not"),
        ([point(0, 100.0), point(1, 100.0, errors=1, good=99)], "1 of 100 requests of repeat 1"),
        ([point(0, 100.0), point(1, 100.0, cut_off=2)], "2 of 102 requests of repeat 1"),
        ([point(0, 1.0), point(1, 1.0, errors=1, good=999)], "nothing above p99 was recorded"),
        ([], "no load 'concurrent 4' was measured"),
    ],
)
def test_a_latency_that_some_requests_never_had_is_missing(
    bench: Bench, points: list[LoadPoint], words: str
) -> None:
    found = bench.judge(**SLO, points=points, threshold=1e9)
    assert found.verdict is Verdict.MISSING
    assert words in found.words


def test_a_latency_with_failed_requests_is_bounded_by_the_next_percentile(bench: Bench) -> None:
    points = [point(n, 100.0 + 0.01 * n, errors=3) for n in range(3)]
    slo = {**SLO, "percentile": "p90", "points": points}
    assert bench.judge(**slo, threshold=101.2).number == pytest.approx(101.01)
    assert bench.judge(**slo, threshold=101.2).verdict is Verdict.PASSED
    assert bench.judge(**slo, threshold=100.5).verdict is Verdict.INCONCLUSIVE
    assert bench.judge(**slo, threshold=99.5).verdict is Verdict.FAILED


def test_a_load_that_was_not_measured_is_missing_with_the_nearest(bench: Bench) -> None:
    fields = {"kind": "throughput", "points": [point(n, 1.0) for n in range(3)]}
    good = bench.judge(**fields, load="concurrent 4", threshold=50)
    assert good.verdict is Verdict.PASSED
    lost = bench.judge(**fields, load="concurrent 5", threshold=50)
    assert lost.verdict is Verdict.MISSING
    assert "did you mean 'concurrent 4'?" in lost.words


# -- the spec, and the check of what was answered ------------------------------------------


@pytest.mark.parametrize(
    "criterion",
    [
        {"kind": "size_ratio", "size_bytes": 1, "base_size_bytes": 2},
        {"kind": "size_ratio", "size_bytes": 1, "base_size_bytes": 2, "threshold": math.nan},
        {"kind": "size", "size_bytes": 1, "base_size_bytes": 2, "threshold": 0.5},
        {**SLO, "points": [], "threshold": 0},
        {**SLO, "points": [], "threshold": 1, "percentile": "p98"},
    ],
)
def test_a_criterion_that_says_too_little_is_refused(criterion: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateSpec.model_validate({"criteria": {"it": criterion}})
    with pytest.raises(ValidationError):
        GateSpec.model_validate({"criteria": {}})


@pytest.mark.parametrize(
    "forged",
    [
        {"verdict": Verdict.PASSED},
        {"verdict": Verdict.PASSED, "number": None, "low": None, "high": None},
        {"verdict": Verdict.PASSED, "low": None},
        {"threshold": 0.7},
        {"verdict": Verdict.PASSED, "limit": Limit.AT_LEAST},
        {"kind": "score"},
    ],
)
def test_a_verdict_that_its_numbers_do_not_carry_is_refused(forged: dict[str, object]) -> None:
    size = {"kind": "size_ratio", "size_bytes": 60, "base_size_bytes": 100, "threshold": 0.5}
    spec = GateSpec.model_validate({"criteria": {"it": size}})
    honest = judged("size_ratio", "size", measures.ratio(60, 100), Limit.AT_MOST, 0.5, 0.95)
    check(spec, gate_result({"it": honest}, Inconclusive.STOP, True), lambda _: Path())
    lie = gate_result({"it": honest.model_copy(update=forged)}, Inconclusive.STOP, True)
    with pytest.raises(ValueError):
        check(spec, lie, lambda _: Path())


def test_a_measured_nan_is_told_as_no_number() -> None:
    found = replace(measures.ratio(60, 100), number=math.nan)
    assert judged("size_ratio", "size", found, Limit.AT_MOST, 0.5, 0.95).number is None
    assert measures.repeats([1.0, math.nan], 0.95).number is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([100.0, 100.0], "needs at least 1 more"),
        ([100.0] * 5, "nothing is known about their spread"),
        ([100.0, 0.0, 90.0], "which is not above zero"),
    ],
)
def test_repeats_that_tell_no_spread_never_pass(values: list[float], words: str) -> None:
    found = measures.repeats(values, 0.95)
    assert not found.has_interval
    assert words in found.reason
    for limit, threshold in ((Limit.AT_LEAST, 1e-9), (Limit.AT_MOST, 1e9)):
        assert judge(found, limit, threshold) is not Verdict.PASSED
