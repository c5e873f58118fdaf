"""The numbers of the reference's evaluation standards, one by one, as a spec holds them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from tasks import standards
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.compress.quantization import scheme
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.evaluate.group_spec import Average, Group, GroupTask, leaves
from tasks.evaluate.spec import EvaluateSpec
from tasks.standards import StandardKind

MODEL = ArtifactRef(kind=ArtifactKind.MODEL, digest="0" * 64, size_bytes=1, name="m")
BBH = {
    "sports_understanding": 0.5,
    "tracking_shuffled_objects_three_objects": 0.333333,
    "navigate": 0.5,
    "snarks": 0.5,
    "date_understanding": 0.166667,
    "reasoning_about_colored_objects": 0.055556,
    "object_counting": 0.052632,
    "logical_deduction_seven_objects": 0.142857,
    "geometric_shapes": 0.090909,
    "web_of_lies": 0.5,
    "movie_recommendation": 0.166667,
    "logical_deduction_five_objects": 0.2,
    "salient_translation_error_detection": 0.166667,
    "disambiguation_qa": 0.333333,
    "temporal_sequences": 0.25,
    "hyperbaton": 0.5,
    "logical_deduction_three_objects": 0.333333,
    "causal_judgement": 0.5,
    "formal_fallacies": 0.5,
    "tracking_shuffled_objects_seven_objects": 0.142857,
    "ruin_names": 0.166667,
    "penguins_in_a_table": 0.2,
    "boolean_expressions": 0.5,
    "tracking_shuffled_objects_five_objects": 0.2,
}
MATHEMATICS = (
    "algebra",
    "counting_and_prob",
    "geometry",
    "intermediate_algebra",
    "num_theory",
    "prealgebra",
    "precalculus",
)
# metric, examples, what guessing scores
OPENLLM = {
    "arc_challenge": ("acc", 25, None),
    "gsm8k": ("exact_match,strict-match", 5, None),
    "hellaswag": ("acc_norm", 10, None),
    "mmlu": ("acc", 5, None),
    "winogrande": ("acc", 5, None),
    "truthfulqa_mc2": ("acc", 0, None),
}
LEADERBOARD: dict[str, Any] = {
    "math_lvl5": {
        f"leaderboard_math_{subject}_hard": ("exact_match", 4, None) for subject in MATHEMATICS
    },
    "musr": {
        "leaderboard_musr_murder_mysteries": ("acc_norm", 0, 0.5),
        "leaderboard_musr_object_placements": ("acc_norm", 0, 0.2),
        "leaderboard_musr_team_allocation": ("acc_norm", 0, 0.333333),
    },
    "bbh": {f"leaderboard_bbh_{task}": ("acc_norm", 3, guess) for task, guess in BBH.items()},
    "gpqa": {
        f"leaderboard_gpqa_{subset}": ("acc_norm", 0, 0.25)
        for subset in ("main", "diamond", "extended")
    },
    "mmlu_pro": ("acc", 5, 0.1),
    "ifeval": {
        "inst_level_strict": ("inst_level_strict_acc", 0, None),
        "prompt_level_strict": ("prompt_level_strict_acc", 0, None),
    },
}
ONE_LINERS = {
    "aime2024": ("aime24", "exact_match"),
    "aime2025": ("aime25", "exact_match"),
    "gpqa_diamond": ("gpqa_diamond_cot_zeroshot", "exact_match,flexible-extract"),
    "math500": ("hendrycks_math500", "exact_match"),
    "humaneval": ("humaneval", "pass@1,create_test"),
}


RUNS_CODE_OF_MODELS = ("humaneval",)
TASKS = Path(importlib.util.find_spec("lm_eval").submodule_search_locations[0]) / "tasks"  # type: ignore[union-attr,index]


def spec(standard: str) -> EvaluateSpec:
    return EvaluateSpec(model=MODEL, allow_hub=True, standard=standard)


def numbers(group: Group) -> dict[str, Any]:
    """Every leaf's metric, examples and random score, nested as the group is."""
    return {
        name: (node.metric, node.num_fewshot, node.random_score)
        if isinstance(node, GroupTask)
        else numbers(node)
        for name, node in group.members.items()
    }


def test_openllm_has_the_references_tasks_and_settings() -> None:
    found = spec("openllm")
    assert found.tasks == ("openllm",)
    assert found.max_length == 4096
    assert found.add_bos_token is True
    assert found.apply_chat_template is False
    assert set(found.groups) == {"openllm"}
    assert numbers(found.groups["openllm"]) == OPENLLM


def test_leaderboard_has_the_references_tasks_and_settings() -> None:
    found = spec("leaderboard")
    assert found.tasks == ("leaderboard",)
    assert found.apply_chat_template is True
    assert found.fewshot_as_multiturn is True
    assert set(found.groups) == {"leaderboard"}
    assert numbers(found.groups["leaderboard"]) == LEADERBOARD
    assert len(BBH) == 24
    assert sum(1 for _ in leaves(found.groups)) == 7 + 3 + 24 + 3 + 1 + 2


@pytest.mark.parametrize("name", ["openllm", "leaderboard"])
def test_averages_are_plain_unweighted_and_unclamped_as_the_references(name: str) -> None:
    def check(group: Group) -> None:
        assert group.average is Average.PLAIN
        assert not group.clamp_at_zero
        assert group.weight == 1
        for member in group.members.values():
            assert member.weight == 1
            if isinstance(member, Group):
                check(member)

    check(spec(name).groups[name])


def test_only_tasks_of_common_items_are_said_to_share_them() -> None:
    shared = {task for task, leaf in leaves(spec("leaderboard").groups) if leaf.items is not None}
    assert shared == {f"leaderboard_gpqa_{part}" for part in ("main", "diamond", "extended")}


def task_and_leaf(name: str) -> tuple[tuple[str, ...], str, GroupTask]:
    """Tasks of a one-liner as its file has them, for one of them may not be evaluated."""
    content = standards.load(StandardKind.EVALUATION, name).content
    groups = TypeAdapter(dict[str, Group]).validate_python(content["groups"])
    ((task, leaf),) = leaves(groups)
    return tuple(content["tasks"]), task, leaf


@pytest.mark.parametrize(("name", "expected"), ONE_LINERS.items())
def test_one_liners_name_one_task_without_examples(name: str, expected: tuple[str, str]) -> None:
    tasks, task, leaf = task_and_leaf(name)
    assert tasks == (task,)
    assert (task, leaf.metric) == expected
    assert leaf.num_fewshot == 0
    if name not in RUNS_CODE_OF_MODELS:
        assert spec(name).tasks == tasks


def of_lm_eval(task: str) -> dict[str, Any]:
    """A task's YAML in the installed lm-eval, with what it includes; a function is its name."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader: Loader, node: yaml.ScalarNode) -> str:
        return str(loader.construct_scalar(node))

    Loader.add_constructor("!function", function)

    def read(file: Path) -> dict[str, Any]:
        own = yaml.load(file.read_text(), Loader)  # noqa: S506  (a SafeLoader with one tag)
        below = own.pop("include", None)
        return (read(file.parent / below) if below else {}) | own

    files = [
        file
        for file in TASKS.rglob("*.yaml")
        if re.search(f"^task: {task}$", file.read_text(), re.M)
    ]
    assert len(files) == 1, files
    return read(files[0])


@pytest.mark.parametrize("name", ONE_LINERS)
def test_one_liners_take_metric_filter_and_examples_that_lm_evals_own_file_has(name: str) -> None:
    _, task, leaf = task_and_leaf(name)
    found = of_lm_eval(task)
    metric, _, filter_name = leaf.metric.partition(",")
    filters = [entry["name"] for entry in found.get("filter_list", [{"name": "none"}])]
    assert (filter_name or "none") in filters
    names = {entry["metric"]: entry for entry in found["metric_list"]}
    key = "utils.pass_at_k" if name == "humaneval" else metric
    assert key in names
    if name == "humaneval":
        assert metric == f"pass@{names[key]['k'][0]}"
    assert names[key]["higher_is_better"] is True
    assert names[key]["aggregation"] == "mean"
    assert found.get("num_fewshot", 0) == leaf.num_fewshot


def test_tasks_that_run_what_a_model_writes_are_refused_before_anything_runs() -> None:
    for name in RUNS_CODE_OF_MODELS:
        with pytest.raises(ValidationError, match="task 'humaneval' runs code that the model"):
            spec(name)
    unsafe = [
        match[1]
        for file in TASKS.rglob("*.yaml")
        if "unsafe_code: true" in (text := file.read_text())
        and (match := re.search(r"^task: *(\S+)$", text, re.M))
    ]
    assert {"humaneval", "mbpp"} <= set(unsafe)
    for task in unsafe:
        with pytest.raises(ValidationError, match="no setting allows it"):
            EvaluateSpec(model=MODEL, allow_hub=True, tasks=(task,))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_four_bit_floats_are_compressed_tensors_schemes_and_say_what_serves_them(name: str) -> None:
    recipe = Recipe.model_validate(parse_recipe(name, Path.cwd()))
    (modifier,) = recipe.modifiers
    expected = scheme(name, ["Linear"]).model_dump(mode="json", exclude_none=True)
    for arguments in ("weights", "input_activations"):
        del expected[arguments]["zp_dtype"]  # symmetric: there are no zero points
    found = modifier.groups["group_0"].model_dump(mode="json", exclude_none=True)
    assert found == expected
    assert modifier.ignore == ("lm_head",)
    assert "needs a GPU" in standards.load(StandardKind.COMPRESSION, name).description


def test_every_task_that_a_standard_names_is_one_of_lm_evals() -> None:
    families = "leaderboard benchmarks arc gsm8k hellaswag mmlu winogrande truthfulqa aime gpqa"
    files = [
        file
        for family in (*families.split(), "hendrycks_math", "humaneval")
        for file in (TASKS / family).rglob("*.yaml")
    ]
    pattern = re.compile(r"^(?:task|group): *(\S+)$", re.MULTILINE)
    known = {name for file in files for name in pattern.findall(file.read_text())}
    for name in standards.names(StandardKind.EVALUATION):
        if name in ONE_LINERS:
            assert set(task_and_leaf(name)[0]) <= known
            continue
        found = spec(name)
        assert {*found.tasks, *(task for task, _ in leaves(found.groups))} <= known


def test_no_evaluation_standard_is_without_golden_numbers() -> None:
    assert set(standards.names(StandardKind.EVALUATION)) == {
        "openllm",
        "leaderboard",
        *ONE_LINERS,
    }
