"""Averages over tasks: normalised, nested, weighted, with errors, and absent rather than wrong."""

from __future__ import annotations

import math
import random
import statistics
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from tasks.evaluate.group_spec import Group, NodeName, leaves, shots
from tasks.evaluate.group_table import group_table
from tasks.evaluate.groups import GroupScore, score_groups
from tasks.evaluate.parts import leaf_tasks, parts_of_lm_eval_group
from tasks.evaluate.scores import averages
from tasks.evaluate.spec import Score
from tasks.gate.spec import MetricName

GROUPS = TypeAdapter(dict[NodeName, Group])


def score(task: str, value: float, stderr: float | None = 0.1, **fields: Any) -> Score:
    metric, _, filter_name = fields.pop("metric", "acc").partition(",")
    return Score(
        task=task,
        metric=metric,
        filter=filter_name or "none",
        value=value,
        stderr=stderr,
        num_items=fields.pop("num_items", 10),
        **fields,
    )


def tree(groups: dict[str, Any], *scores: Score) -> dict[str, GroupScore]:
    return {node.path: node for node in score_groups(GROUPS.validate_python(groups), scores)}


def test_guessing_is_zero_and_perfect_is_one() -> None:
    groups = {"g": {"a": {"metric": "acc", "random_score": 0.25}}}
    assert tree(groups, score("a", 0.25))["g"].value == 0
    assert tree(groups, score("a", 1.0))["g"].value == 1
    assert tree(groups, score("a", 0.55))["g"].value == pytest.approx((0.55 - 0.25) / 0.75)
    assert tree(groups, score("a", 0.1))["g"].value == pytest.approx(-0.2)


def test_a_task_without_a_random_score_stays_as_it_is() -> None:
    assert tree({"g": {"a": {"metric": "acc"}}}, score("a", 0.3))["g"].value == 0.3


def test_a_nested_average_is_that_of_its_members_whatever_their_size() -> None:
    groups = {
        "all": {
            "inner": {"a": {"metric": "acc"}, "b": {"metric": "acc"}, "c": {"metric": "acc"}},
            "d": {"metric": "acc"},
        }
    }
    found = tree(
        groups, *(score(name, v) for name, v in zip("abcd", (0.1, 0.2, 0.6, 0.9), strict=True))
    )
    assert found["all/inner"].value == pytest.approx(0.3)
    assert found["all"].value == pytest.approx((0.3 + 0.9) / 2)
    assert list(found) == ["all", "all/inner", "all/inner/a", "all/inner/b", "all/inner/c", "all/d"]
    assert (found["all"].num_tasks, found["all"].num_items) == (4, 40)


def test_plain_averages_multiply_by_weights_and_weighted_ones_divide_by_them() -> None:
    members = {"a": {"metric": "acc", "weight": 2.0}, "b": {"metric": "acc"}}
    scores = (score("a", 0.3, 0.03), score("b", 0.6, 0.04))
    plain = tree({"g": members}, *scores)["g"]
    weighted = tree({"g": {"members": members, "average": "weighted"}}, *scores)["g"]
    assert plain.value == pytest.approx((2 * 0.3 + 0.6) / 2)
    assert plain.stderr == pytest.approx(math.hypot(2 * 0.03, 0.04) / 2)
    assert weighted.value == pytest.approx((2 * 0.3 + 0.6) / 3)
    assert weighted.stderr == pytest.approx(math.hypot(2 * 0.03, 0.04) / 3)


def test_a_groups_own_weight_counts_in_the_average_above() -> None:
    inner = {"members": {"a": {"metric": "acc"}}, "weight": 3.0}
    outer = {"members": {"inner": inner, "b": {"metric": "acc"}}, "average": "weighted"}
    assert tree({"g": outer}, score("a", 0.4), score("b", 0.8))["g"].value == pytest.approx(0.5)


def test_clamping_reaches_groups_below_and_says_which_tasks_it_changed() -> None:
    leaf = {"metric": "acc", "random_score": 0.5}
    members = {"inner": {"a": leaf, "b": leaf}, "c": leaf}
    scores = (score("a", 0.4), score("b", 0.75), score("c", 0.5))
    free = tree({"g": members}, *scores)
    clamped = tree({"g": {"members": members, "clamp_at_zero": True}}, *scores)
    assert free["g/inner"].value == pytest.approx((-0.2 + 0.5) / 2)
    assert clamped["g/inner"].value == pytest.approx(0.25)
    assert [node.path for node in clamped.values() if node.is_clamped] == ["g/inner/a"]
    assert clamped["g"].stderr == free["g"].stderr


def test_errors_of_independent_tasks_agree_with_simulation() -> None:
    rng = random.Random(0)
    groups = {
        "g": {
            "inner": {
                "a": {"metric": "acc", "random_score": 0.5},
                "b": {"metric": "acc", "random_score": 0.2},
            },
            "c": {"metric": "acc", "weight": 1.5},
        }
    }
    truth = {"a": (0.8, 0.03), "b": (0.6, 0.05), "c": (0.7, 0.02)}
    said = tree(groups, *(score(name, *pair) for name, pair in truth.items()))["g"].stderr
    seen = [
        tree(groups, *(score(name, rng.gauss(*pair)) for name, pair in truth.items()))["g"].value
        for _ in range(4000)
    ]
    assert said == pytest.approx(statistics.stdev(value or 0.0 for value in seen), rel=0.05)


def test_errors_of_tasks_that_share_items_add_up() -> None:
    both = {
        "strict": {"task": "ifeval", "metric": "strict"},
        "loose": {"task": "ifeval", "metric": "loose"},
    }
    scores = (
        score("ifeval", 0.5, 0.03, metric="strict"),
        score("ifeval", 0.6, 0.05, metric="loose"),
    )
    found = tree({"g": both}, *scores)["g"]
    assert found.stderr == pytest.approx((0.03 + 0.05) / 2)
    assert found.shared_items == ("ifeval",)

    stated = {name: {"metric": "acc", "items": "gpqa"} for name in ("main", "diamond")}
    nested = {"g": {"one": {"main": stated["main"]}, "two": {"diamond": stated["diamond"]}}}
    found = tree(nested, score("main", 0.3, 0.02), score("diamond", 0.4, 0.04))["g"]
    assert found.stderr == pytest.approx((0.02 + 0.04) / 2), "across groups too"
    assert found.shared_items == ("gpqa",)


def test_a_group_with_a_missing_task_has_no_score_and_says_why() -> None:
    groups = {
        "g": {"inner": {"a": {"metric": "acc"}, "b": {"metric": "acc"}}, "c": {"metric": "f1"}}
    }
    found = tree(groups, score("a", 0.5), score("c", 0.5))
    assert found["g/inner/a"].value == 0.5
    assert found["g/inner"].value is None
    assert found["g/inner"].reason == "1 of 2 tasks have no score: b was not evaluated"
    assert found["g"].stderr is None
    assert found["g"].num_items is None
    assert found["g"].reason == (
        "2 of 3 tasks have no score: b was not evaluated, c has no f1, only acc"
    )


@pytest.mark.parametrize(
    ("leaf", "measured", "words"),
    [
        ({"metric": "ppl"}, score("a", 9, metric="ppl", higher_is_better=False), "ppl is lower"),
        (
            {"metric": "m", "random_score": 0.5},
            score("a", 37.0, metric="m"),
            "37, which is no share",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused_in_words(
    leaf: dict[str, Any], measured: Score, words: str
) -> None:
    found = tree({"g": {"a": leaf}}, measured)
    assert found["g"].value is None
    assert words in (found["g/a"].reason or "")


def test_an_unknown_error_of_one_task_leaves_the_average_without_one() -> None:
    groups = {"g": {"a": {"metric": "acc"}, "b": {"metric": "acc"}}}
    found = tree(groups, score("a", 0.5), score("b", 0.7, None))["g"]
    assert (found.value, found.stderr) == (pytest.approx(0.6), None)
    assert found.reason == "no standard error of g/b"


def test_filters_are_part_of_a_metrics_name_and_none_is_no_filter() -> None:
    groups = {"g": {"a": {"metric": "em,strict"}, "b": {"metric": "acc,none"}}}
    found = tree(groups, score("a", 0.2, metric="em,strict"), score("b", 0.4))
    assert found["g"].value == pytest.approx(0.3)


def test_averages_become_scores_that_other_steps_can_name() -> None:
    groups = {"g": {"inner": {"a": {"metric": "acc"}}, "b": {"metric": "acc"}}}
    scores = [score("a", 0.5)]
    [found] = averages(list(tree(groups, *scores).values()), scores)
    assert (found.task, found.label, found.value) == ("g/inner", "average", 0.5)


WEIGHTED = {
    "g": {
        "average": "weighted",
        "members": {
            "inner": {
                "weight": 3,
                "members": {
                    "a": {"metric": "acc", "random_score": 0.25},
                    "b": {"metric": "acc", "weight": 2, "items": "common"},
                },
            },
            "many": {"metric": "acc", "random_score": 0.5},
        },
    }
}


@given(st.lists(st.floats(0.5, 1), min_size=4, max_size=4), st.integers(1, 50), st.booleans())
def test_an_average_is_the_sum_of_its_parts_and_looks_into_groups_of_lm_evals(
    values: list[float], size: int, by_size: bool
) -> None:
    sizes = (size, 3 * size) if by_size else (1, 1)
    own = [score("a", values[0]), score("b", values[1])]
    below = [score("c", values[2], num_items=size), score("d", values[3], num_items=3 * size)]
    mean = (sizes[0] * values[2] + sizes[1] * values[3]) / sum(sizes)
    parts = parts_of_lm_eval_group(mean, "acc", ("c", "d"), below)
    scores = [*own, *below, score("many", mean).model_copy(update={"parts": parts})]
    found = averages(list(tree(WEIGHTED, *scores).values()), scores)
    known = {one.task: one.value for one in scores}
    assert [one.task for one in found] == ["g", "g/inner"]
    for one in found:
        total = math.fsum(
            part.factor * (known[part.task] - part.random_score) / (1 - part.random_score)
            for part in one.parts
        )
        assert total == pytest.approx(one.value, abs=1e-9)
    assert [part.task for part in found[0].parts] == ["a", "b", "c", "d"]
    assert found[0].parts[1].items == "common"


def test_a_group_that_adds_up_in_another_way_has_no_parts_and_nested_ones_are_looked_into() -> None:
    members = [score("c", 0.2, num_items=1), score("d", 0.6, num_items=3)]
    assert parts_of_lm_eval_group(0.3, "acc", ("c", "d"), members) == ()
    assert parts_of_lm_eval_group(0.5, "acc", ("c", "gone"), members) == ()
    assert leaf_tasks("g", {"g": ["h", "c"], "h": ["c", "d"]}) == ("c", "d")


def test_the_table_shows_every_node_indented_and_says_why_a_score_is_absent() -> None:
    groups = {"g": {"inner": {"a": {"metric": "acc", "random_score": 0.5}}, "b": {"metric": "acc"}}}
    nodes = tree(groups, score("a", 0.75, num_items=8)).values()
    console = Console(width=140, file=StringIO())
    console.print(group_table(nodes, title="baseline"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0] == "baseline"
    assert "1 of 2 tasks have no score: b was not evaluated" in lines[2]
    assert lines[3].split() == ["inner", "0.5000", "0.2000", "8"]
    assert lines[4].startswith("    a ")
    assert lines[4].split() == ["a", "0.5000", "0.2000", "0.7500", "0.5000", "8"]
    assert lines[5].startswith("  b ")


def test_a_gate_takes_the_average_of_a_nested_group_by_name() -> None:
    name = TypeAdapter(MetricName)
    assert name.validate_python("openllm/average") == "openllm/average"
    assert name.validate_python("leaderboard/bbh/average") == "leaderboard/bbh/average"
    for wrong in ("average", "leaderboard//average", "/average", "leaderboard/"):
        with pytest.raises(ValidationError, match="must be task/metric"):
            name.validate_python(wrong)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"g": {}}, "members"),
        ({"g": {"a": {"metrc": "acc"}}}, "metric"),
        ({"g": {"a": {"metric": "acc", "random_score": 1.0}}}, "less than 1"),
        ({"g": {"a": {"metric": "acc", "weight": 0}}}, "greater than 0"),
        ({"g": {"members": {"a": {"metric": "acc"}}, "avrage": "plain"}}, "avrage"),
        ({"g/h": {"a": {"metric": "acc"}}}, "g/h"),
        ({"g": {"metric": "acc"}}, "members"),
    ],
)
def test_a_tree_that_says_nothing_sensible_is_refused(groups: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GROUPS.validate_python(groups)


def test_a_tree_reads_back_from_its_json() -> None:
    groups = GROUPS.validate_python(
        {"g": {"inner": {"a": {"metric": "acc", "num_fewshot": 5}}, "b": {"metric": "acc"}}}
    )
    assert GROUPS.validate_json(GROUPS.dump_json(groups)) == groups
    assert [task for task, _ in leaves(groups)] == ["a", "b"]
    assert shots(groups) == {"a": 5}


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.1, 10), st.floats(0, 0.9)),
        min_size=1,
        max_size=8,
    )
)
def test_a_weighted_average_lies_between_its_members(
    rows: list[tuple[float, float, float, float]],
) -> None:
    members = {
        f"t{n}": {"metric": "acc", "weight": weight, "random_score": guessing}
        for n, (_, _, weight, guessing) in enumerate(rows)
    }
    scores = [score(f"t{n}", value, stderr) for n, (value, stderr, _, _) in enumerate(rows)]
    found = tree({"g": {"members": members, "average": "weighted"}}, *scores)
    values = [node.value or 0.0 for node in found.values() if not node.is_group]
    errors = [node.stderr or 0.0 for node in found.values() if not node.is_group]
    average = found["g"]
    assert average.value is not None
    assert average.stderr is not None
    assert min(values) - 1e-9 <= average.value <= max(values) + 1e-9
    assert average.stderr <= max(errors) + 1e-9
