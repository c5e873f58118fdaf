"""Claims about the analysis: rows, fronts, table and page, from what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.analyze.body import main
from tasks.analyze.rows import (
    Loads,
    Sample,
    Samples,
    choose_loads,
    compare_variants,
    pair,
    pareto_front,
    parse_samples,
    read_samples,
    recoveries,
    summarise_serving,
)
from tasks.analyze.spec import AnalyzeSpec, Evaluation, Variant
from tasks.analyze.table import comparison_table, gaps, interval_notes
from tasks.artifacts import ArtifactKind, ArtifactRef, describe
from tasks.benchmark.spec import Percentiles
from tasks.body import BodyContext
from tasks.evaluate.spec import Score
from tests.fakes.kept_run import load_point

NUM_ITEMS = 60
GOOD_LINE = json.dumps(
    {"task": "t", "metric": "acc", "item": "x", "numerator": 0.5, "denominator": 1.0}
)


def bits(value: float) -> Score:
    return Score(
        task="text",
        metric="bits_per_byte",
        value=value,
        num_items=NUM_ITEMS,
        higher_is_better=False,
    )


def samples_file(folder: Path, name: str, factor: float) -> ArtifactRef:
    """Bits of documents, scaled; one line an item."""
    path = folder / f"{name}.jsonl"
    lines = [
        {
            "task": "text",
            "metric": "bits_per_byte",
            "item": f"doc{n}",
            "cluster": None,
            "numerator": factor * (100 + 7 * (n % 5)),
            "denominator": 50,
        }
        for n in range(NUM_ITEMS)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return describe(path, ArtifactKind.SAMPLES, name)


def test_an_analysis_writes_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    refs = {name: samples_file(tmp_path, name, f) for name, f in (("base", 1.0), ("w4", 1.04))}
    points = (load_point("synchronous", 0, 20.0, 50.0), load_point("concurrent 4", 0, 60.0, 70.0))
    variants = {
        "base": Variant(
            evaluations=(Evaluation(scores=(bits(2.2),), samples=refs["base"]),),
            model_size_bytes=4 << 20,
            load_points=points,
        ),
        "w4": Variant(
            evaluations=(Evaluation(scores=(bits(2.29),), samples=refs["w4"]),),
            model_size_bytes=1 << 20,
        ),
    }
    spec = AnalyzeSpec(title="A <b>title</b>", baseline="base", variants=variants)
    inputs = {ref.digest: str(tmp_path / f"{name}.jsonl") for name, ref in refs.items()}
    out = tmp_path / "out"
    out.mkdir()
    result = main(spec, BodyContext(out, tmp_path, inputs))

    assert result.primary == "text/bits_per_byte"
    recovery = result.rows[1].recoveries[0].comparison
    assert recovery.estimate == pytest.approx(1 / 1.04)
    assert set(result.pareto_size) == {"base", "w4"}
    assert result.pareto_speed == ("base",)
    page = (out / "report" / "index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing is fetched from anywhere"
    assert "A &lt;b&gt;title" in page
    assert page.count("data:image/svg+xml") == 4, "recovery, two latencies, size"
    again = tmp_path / "again"
    again.mkdir()
    assert main(spec, BodyContext(again, tmp_path, inputs)).report == result.report, "same bytes"


def test_models_that_were_asked_other_items_are_not_compared() -> None:
    one = {"a": Sample(1.0, 1.0, None), "b": Sample(0.0, 1.0, None)}
    with pytest.raises(ValueError, match="1 items were answered by one of the two only"):
        pair(one, {"a": Sample(1.0, 1.0, None)})
    with pytest.raises(ValueError, match="different denominators"):
        pair(one, {"a": Sample(1.0, 2.0, None), "b": Sample(0.0, 1.0, None)})


def test_items_that_only_one_answered_cost_their_metric_and_no_other() -> None:
    items = {f"i{n}": Sample(float(n % 2), 1.0, None) for n in range(100)}
    fewer = {name: sample for name, sample in items.items() if name != "i7"}
    base, other = ({("t", "acc"): side, ("t", "f1"): items} for side in (items, fewer))
    directions = dict.fromkeys(base, True)
    acc, f1 = recoveries(directions, base, other, confidence=0.95)
    assert acc.comparison.reason == "1 items were answered by one of the two only"
    assert acc.comparison.estimate is None
    assert not acc.is_compared
    assert f1.comparison.estimate == 1.0


def test_an_item_that_stands_twice_is_refused() -> None:
    line = '{"task": "t", "metric": "acc", "item": "x", "numerator": 1, "denominator": 1}'
    with pytest.raises(ValueError, match="stands twice"):
        read_samples(parse_samples([line, line]))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 of the samples is no sample: Invalid JSON"),
        ("[]", "line 2 of the samples is no sample: Input should be an object"),
        ('{"task": "t"}', "metric: Field required; item: Field required; numerator"),
        (GOOD_LINE.replace("0.5", '"half"'), "numerator: Input should be a valid number"),
        (GOOD_LINE.replace("1.0", "0"), "denominator: Input should be greater than 0"),
    ],
)
def test_a_line_that_is_no_sample_is_named_with_what_is_wrong(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(parse_samples([GOOD_LINE, line]))


def measured(*metrics: str) -> dict[tuple[str, str], dict[str, Sample]]:
    return {("t", metric): {"a": Sample(1.0, 1.0, None)} for metric in metrics}


def test_a_metric_that_one_model_lacks_is_an_empty_cell_with_its_reason() -> None:
    def scores(*metrics: str) -> Variant:
        found = [
            Score(task="t", metric=metric, value=1.0, num_items=1, higher_is_better=True)
            for metric in metrics
        ]
        samples = ArtifactRef(kind=ArtifactKind.SAMPLES, digest="0" * 64, size_bytes=1, name="s")
        return Variant(evaluations=(Evaluation(scores=tuple(found), samples=samples),))

    rows = compare_variants(
        "base",
        {"base": scores("acc", "f1"), "w8": scores("acc", "em")},
        {"base": measured("acc", "f1"), "w8": measured("acc", "em")},
        0.95,
    )
    found = {r.label: r.comparison for r in rows[1].recoveries}
    assert found["t/acc"].estimate == 1.0
    assert (found["t/f1"].estimate, found["t/f1"].reason) == (None, "not measured")
    assert gaps(rows) == [
        "w8, t/acc: 1 items are too few for an interval (10 needed): needs at least 9 more",
        "w8, t/em: not measured of the baseline",
        "w8, t/f1: not measured",
    ]
    headers, lines = comparison_table(rows)
    cells = dict(zip(headers[4:], lines[1][4:], strict=True))
    assert cells == {"f1, recovery (95% interval)": ""}


def test_the_page_says_why_an_interval_is_as_wide_as_it_is() -> None:
    score = Score(task="t", metric="acc", value=1.0, num_items=1, higher_is_better=True)
    samples = ArtifactRef(kind=ArtifactKind.SAMPLES, digest="0" * 64, size_bytes=1, name="s")
    variant = Variant(evaluations=(Evaluation(scores=(score,), samples=samples),))
    items = {("t", "acc"): {str(i): Sample(float(i % 2), 1.0, None) for i in range(40)}}
    rows = compare_variants("a", {"a": variant, "b": variant}, {"a": items, "b": items}, 0.95)
    assert interval_notes(rows) == [
        "t/acc (40 independent units): exact, as agreement on few items or sources proves little"
    ]


@pytest.mark.parametrize(("confidence", "words"), [(0.9, "90%"), (0.999, "99.9%")])
def test_the_table_says_how_confident_its_intervals_are(confidence: float, words: str) -> None:
    score = Score(task="t", metric="acc", value=1.0, num_items=1, higher_is_better=True)
    samples = ArtifactRef(kind=ArtifactKind.SAMPLES, digest="0" * 64, size_bytes=1, name="s")
    variant = Variant(evaluations=(Evaluation(scores=(score,), samples=samples),))
    rows = compare_variants(
        "a", {"a": variant, "b": variant}, {"a": measured("acc"), "b": measured("acc")}, confidence
    )
    assert comparison_table(rows)[0][2] == f"acc, recovery ({words} interval)"


def test_what_was_not_measured_is_an_empty_cell_and_never_a_zero() -> None:
    rows = compare_variants(
        "base", {"base": Variant(), "other": Variant()}, {"base": {}, "other": {}}, 0.95
    )
    assert rows[1].size_fraction is None
    assert rows[1].serving is None
    assert comparison_table(rows) == (["model", "size"], [["base", ""], ["other", ""]])


def test_latency_is_taken_at_the_lightest_load_and_speed_at_the_heaviest() -> None:
    points = [
        load_point(load, repeat, speed + repeat, itl)
        for load, speed, itl in (("synchronous", 20.0, 40.0), ("throughput", 90.0, 80.0))
        for repeat in range(3)
    ]
    serving = summarise_serving(points, choose_loads(points))
    assert serving is not None
    assert (serving.throughput_load, serving.output_tokens_per_s) == ("throughput", 91.0)
    assert serving.itl_ms is not None
    assert (serving.latency_load, serving.itl_ms.p50) == ("synchronous", 40.0)
    assert serving.num_repeats == 3


def test_every_row_is_told_at_the_loads_of_the_baseline() -> None:
    """A variant that slows down under load is not shown at the load that flatters it."""

    def variant(**speeds: float) -> Variant:
        return Variant(
            load_points=tuple(
                load_point(load.replace("_", " "), 0, speed, itl_ms=1000 / speed)
                for load, speed in speeds.items()
            )
        )

    variants = {
        "slows": variant(synchronous=100, concurrent_8=90),
        "base": variant(synchronous=100, concurrent_8=300),
        "partly": variant(synchronous=80),
        "elsewhere": variant(concurrent_64=900),
    }
    samples: dict[str, Samples] = {name: {} for name in variants}
    rows = {row.name: row for row in compare_variants("base", variants, samples, 0.95)}
    shown = {
        name: (row.serving.output_tokens_per_s, row.serving.itl_ms and row.serving.itl_ms.p50)
        for name, row in rows.items()
        if row.serving
    }
    assert shown == {"base": (300, 10.0), "slows": (90, 10.0), "partly": (None, 12.5)}
    assert {row.serving.throughput_load for row in rows.values() if row.serving} == {"concurrent 8"}
    headers, lines = comparison_table(list(rows.values()))
    cells = {line[0]: dict(zip(headers, line, strict=True)) for line in lines}
    assert cells["partly"]["tokens/s"] == cells["elsewhere"]["tokens/s"] == ""


def test_the_lightest_load_is_that_with_the_fewest_requests_at_once() -> None:
    """Also where a server that is past its best serves less under a heavier load."""
    points = [
        load_point(load, 0, speed, 10.0).model_copy(
            update={"latency_s": Percentiles(mean=s, p50=s, p90=s, p95=s, p99=s)}
        )
        for load, speed, s in (("concurrent 64", 90, 32.0), ("synchronous", 100, 0.33))
    ]
    assert choose_loads(points) == Loads(throughput="synchronous", latency="synchronous")


def test_the_front_holds_what_no_other_beats() -> None:
    costs = {"small": (1.0, -90.0), "good": (4.0, -100.0), "beaten": (4.0, -95.0)}
    assert pareto_front(costs) == ("small", "good")


def test_a_baseline_that_is_no_variant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="did you mean 'baseline'"):
        AnalyzeSpec(baseline="basline", variants={"baseline": Variant()})
