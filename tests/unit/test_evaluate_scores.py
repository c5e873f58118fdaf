"""Scores, standard errors and sample lines, without lm-eval."""

import json
import math
import random
import statistics
from typing import Any

import pytest

from tasks.evaluate.json_lines import clean
from tasks.evaluate.scores import Aggregation, EvaluatedTask, Ratio, ratio_standard_error
from tasks.evaluate.scores import score_tasks as score


def sample(metric: str, value: Any, *, text: str = "x", answer: Any = 0.0) -> dict[str, Any]:
    return {
        "doc": {"text": text, "source": "play"},
        "doc_hash": text.ljust(64, "0"),
        "filter": "none",
        "metrics": [metric],
        "filtered_resps": [answer],
        metric: value,
    }


def results(task: str, entries: dict[str, Any]) -> dict[str, Any]:
    return {"results": {task: entries}, "higher_is_better": {}, "n-shot": {task: 0}}


def task(aggregation: Aggregation, samples: list[dict[str, Any]]) -> EvaluatedTask:
    return EvaluatedTask("t", samples, {"m": aggregation})


def test_the_ratio_error_of_equal_denominators_is_that_of_a_mean() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert ratio_standard_error([Ratio(v, 1.0) for v in values]) == pytest.approx(expected)


def test_the_ratio_error_agrees_with_the_bootstrap() -> None:
    rng = random.Random(0)
    sizes = [rng.randint(50, 400) for _ in range(300)]
    ratios = [Ratio(size * rng.gauss(2.5, 0.4), size) for size in sizes]
    resampled = []
    for _ in range(1500):
        draw = rng.choices(ratios, k=len(ratios))
        resampled.append(sum(r.numerator for r in draw) / sum(r.denominator for r in draw))
    stderr = ratio_standard_error(ratios)
    assert stderr == pytest.approx(statistics.stdev(resampled), rel=0.08)


def test_one_item_has_no_standard_error() -> None:
    assert ratio_standard_error([Ratio(1.0, 2.0)]) is None


def test_bits_per_byte_are_bits_over_bytes_with_an_error_that_lm_eval_lacks() -> None:
    samples = [sample("m", (-70.0, 100), text="a"), sample("m", (-30.0, 60), text="b")]
    value = 100 / 160 / math.log(2)
    [found], lines = score(
        [task(Aggregation.BITS_PER_BYTE, samples)],
        results("t", {"m,none": value, "m_stderr,none": "N/A"}),
    )
    assert sum(x["numerator"] for x in lines) / sum(x["denominator"] for x in lines) == (
        pytest.approx(value, rel=1e-12)
    )
    assert [line["denominator"] for line in lines] == [100, 60]
    assert [line["cluster"] for line in lines] == ["play", "play"]
    assert found.stderr is not None


def test_a_perplexity_is_a_score_with_a_delta_method_error_and_no_lines() -> None:
    samples = [sample("m", (-70.0, 100)), sample("m", (-30.0, 60))]
    value = math.exp(100 / 160)
    [found], lines = score(
        [task(Aggregation.WEIGHTED_PERPLEXITY, samples)],
        results("t", {"m,none": value, "m_stderr,none": "N/A"}),
    )
    linear = ratio_standard_error([Ratio(70.0, 100.0), Ratio(30.0, 60.0)])
    assert linear is not None
    assert found.stderr == pytest.approx(value * linear)
    assert lines == []


def test_the_share_of_instructions_has_an_error_over_prompts() -> None:
    samples = [
        sample("m", answers, text=str(n))
        for n, answers in enumerate([[True, False], [True], [False, False, True]])
    ]
    [found], lines = score(
        [task(Aggregation.OTHER, samples)],
        results("t", {"m,none": 0.5, "m_stderr,none": "N/A"}),
    )
    assert [(line["numerator"], line["denominator"]) for line in lines] == [(1, 2), (1, 1), (1, 3)]
    by_hand = math.sqrt(3 / 2 * (0**2 + 0.5**2 + 0.5**2)) / 6
    assert found.stderr == pytest.approx(by_hand)


def test_lists_that_add_up_in_another_way_are_a_score_without_items() -> None:
    [found], lines = score(
        [task(Aggregation.OTHER, [sample("m", [True, False]), sample("m", [True], text="y")])],
        results("t", {"m,none": 0.75, "m_stderr,none": "N/A"}),
    )
    assert (found.stderr, lines) == (None, [])


def test_items_of_equal_content_keep_names_of_their_own() -> None:
    samples = [sample("m", 1, text="a"), sample("m", 0, text="a"), sample("m", 0, text="b")]
    _, lines = score(
        [task(Aggregation.MEAN, samples)],
        results("t", {"m,none": 1 / 3, "m_stderr,none": 0.3}),
    )
    first, second, other = (line["item"] for line in lines)
    assert second == f"{first}-2"
    assert other not in {first, second}


def test_items_that_do_not_add_up_to_the_score_are_refused() -> None:
    with pytest.raises(ValueError, match=r"t/m add up to 1\.0, lm-eval says 0\.5"):
        score(
            [task(Aggregation.MEAN, [sample("m", 1)])],
            results("t", {"m,none": 0.5, "m_stderr,none": "N/A"}),
        )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_fails_in_words(value: float) -> None:
    with pytest.raises(ValueError, match=r"m of task 't' is (nan|inf) over 1 items"):
        score([task(Aggregation.OTHER, [sample("m", 1)])], results("t", {"m,none": value}))


def test_nan_likelihoods_never_end_as_an_accuracy() -> None:
    spoilt = sample("m", 1.0, answer=(math.nan, False))
    with pytest.raises(ValueError, match="NaN for 1 of 2 samples of task 't'"):
        score(
            [task(Aggregation.MEAN, [sample("m", 1.0), spoilt])],
            results("t", {"m,none": 1.0, "m_stderr,none": 0.0}),
        )


def test_a_task_without_a_score_or_without_items_fails() -> None:
    with pytest.raises(ValueError, match="task 't' gave no score"):
        score([task(Aggregation.MEAN, [])], results("t", {"alias": "t"}))
    with pytest.raises(ValueError, match="task 't' has no item with a value of m"):
        score([task(Aggregation.MEAN, [])], results("t", {"m,none": 0.0}))


def test_what_lm_eval_returns_becomes_json_without_paths_or_numpy() -> None:
    import numpy as np

    dirty = {
        ("a", 1): np.float64(0.5),
        "stderr": "N/A",
        "nan": math.nan,
        "where": "/tmp/run/work/model",  # noqa: S108
        "many": (np.int64(3), np.array([1.0, 2.0])),
        "what": object(),
    }
    assert json.loads(json.dumps(clean(dirty, {"/tmp/run": "<out>"}), allow_nan=False)) == {  # noqa: S108
        "('a', 1)": 0.5,
        "stderr": None,
        "nan": None,
        "where": "<out>/work/model",
        "many": [3, [1.0, 2.0]],
        "what": "<object>",
    }
