"""Pipelines by name in an experiment file: numbers, steps, and errors at their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.experiment.loading import load_experiment
from flows.experiment.pipelines import Pipeline
from flows.experiment.sound import Experiment
from tasks.compress.overrides import OVERRIDES
from tasks.errors import SpecError
from tasks.standards import StandardKind, load

# The reference's parameters: default, and whether it feeds the recipe.
GOLDEN: dict[str, dict[str, tuple[Any, bool]]] = {
    "pipeline_w4a16": {
        "dampening_fraction": (0.01, True),
        "observer": ("mse", True),
        "group_size": (128, True),
        "actorder": ("weight", True),
        "symmetric": (True, True),
        "num_samples": (1024, False),
    },
    "pipeline_w8a8": {
        "dampening_fraction": (0.01, True),
        "observer": ("mse", True),
        "smoothing_strength": (0.8, True),
        "num_samples": (1024, False),
    },
}
DATA = """\
steps:
  data:
    kind: prepare
    model: {kind: folder, path: model}
    text: {source: text.txt}
    calibration: {num_samples: 1024}
"""


def write(folder: Path, pipeline: str, steps: str = DATA) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "text.txt").write_text("Text.")
    (folder / "mirror").mkdir(exist_ok=True)
    file = folder / "experiment.yaml"
    file.write_text(f"{steps}pipeline:\n{pipeline}")
    return file


def pipeline_text(name: str, **more: Any) -> str:
    fields = {
        "standard": name,
        "model": "${steps.data.model}",
        "calibration": "${steps.data.calibration}",
        "steps": {"openllm": {"mirror": "mirror"}},
        **more,
    }
    lines = yaml.safe_dump(fields, sort_keys=False).splitlines()
    return "".join(f"  {line}\n" for line in lines)


def loaded(folder: Path, name: str = "pipeline_w4a16", **more: Any) -> Experiment:
    return load_experiment(write(folder, pipeline_text(name, **more)))


def problem(folder: Path, **more: Any) -> str:
    with pytest.raises(SpecError) as error:
        loaded(folder, **more)
    return str(error.value)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_pipeline_has_exactly_the_references_parameters_and_steps(name: str) -> None:
    found = Pipeline.model_validate(load(StandardKind.PIPELINE, name).content)
    assert {
        key: (parameter.default, parameter.feeds_recipe)
        for key, parameter in found.parameters.items()
    } == GOLDEN[name]
    assert list(found.steps) == ["compress", "openllm"]
    assert found.steps["compress"]["recipe"] == name.removeprefix("pipeline_")
    assert found.steps["openllm"]["standard"] == "openllm"
    assert found.inputs == ("model", "calibration")


@pytest.mark.parametrize("name", GOLDEN)
def test_what_feeds_the_recipe_is_an_override_of_a_recipe_and_nothing_else_is(name: str) -> None:
    found = Pipeline.model_validate(load(StandardKind.PIPELINE, name).content)
    for key, parameter in found.parameters.items():
        assert found.steps["compress"][key] == f"${{pipeline.parameters.{key}}}"
        assert (key in OVERRIDES) == parameter.feeds_recipe


@pytest.mark.parametrize("name", GOLDEN)
def test_a_pipeline_by_name_becomes_steps_that_run_one_after_the_other(
    name: str, tmp_path: Path
) -> None:
    experiment = loaded(tmp_path, name)
    assert list(experiment.steps) == ["data", "compress", "openllm"]
    assert experiment.steps["compress"].upstream == ("data",)
    assert experiment.steps["openllm"].upstream == ("compress",)
    fields = experiment.steps["compress"].fields
    assert {key: fields[key] for key in GOLDEN[name]} == {
        key: default for key, (default, _) in GOLDEN[name].items()
    }
    assert experiment.steps["openllm"].fields["mirror"] == "mirror"


def test_parameters_are_chosen_in_the_file_and_on_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, pipeline_text("pipeline_w4a16", parameters={"group_size": 64}))
    assert load_experiment(file).steps["compress"].fields["group_size"] == 64
    changed = load_experiment(file, ["pipeline.parameters.group_size=32"])
    assert changed.steps["compress"].fields["group_size"] == 32
    assert changed.steps["compress"].fields["observer"] == "mse"


def test_a_lab_may_bring_a_pipeline_by_path_or_inline(tmp_path: Path) -> None:
    standard = load(StandardKind.PIPELINE, "pipeline_w8a8")
    (tmp_path / "ours.yaml").write_text(
        standard.path.read_text().replace("name: pipeline_w8a8", "name: ours").replace("0.8", "0.5")
    )
    by_path = loaded(tmp_path, "ours.yaml")
    assert by_path.steps["compress"].fields["smoothing_strength"] == 0.5
    inline = load_experiment(write(tmp_path, pipeline_text("x", standard=standard.content)))
    assert inline.steps["compress"].fields["smoothing_strength"] == 0.8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"standard": "pipeline_w4a61"}, "8:3: pipeline.standard: there is no pipeline standard"),
        ({"parameters": {"group_sise": 1}}, "group_sise: the pipeline has none of that name; did"),
        ({"steps": {"openlm": {}}}, "openlm: the pipeline has none of that name; did you mean"),
        ({"modle": "m"}, "pipeline.modle: unknown key; did you mean 'model'?"),
        ({"parameters": 3}, "pipeline.parameters: must be a mapping"),
        ({"steps": {"openllm": 3}}, "pipeline.steps.openllm: must be a mapping"),
    ],
)
def test_a_mistake_is_told_at_its_place(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    assert words in problem(tmp_path, **more)


def test_a_wrong_value_is_told_where_it_was_written(tmp_path: Path) -> None:
    text = pipeline_text("pipeline_w4a16", parameters={"group_size": "many"})
    with pytest.raises(SpecError) as error:
        load_experiment(write(tmp_path, text))
    line = next(n for n, line in enumerate(text.splitlines(), 8) if "group_size" in line)
    assert f"experiment.yaml:{line}:5: steps.compress.group_size: must be" in str(error.value)


def test_a_step_may_not_be_told_otherwise_than_its_pipeline_tells_it(tmp_path: Path) -> None:
    words = problem(tmp_path, steps={"openllm": {"mirror": "mirror", "standard": "leaderboard"}})
    assert "pipeline.steps.openllm.standard: leaderboard here, openllm in standard" in words
    assert "pipeline/pipeline_w4a16.yaml:" in words


def test_what_a_pipeline_needs_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="pipeline: needs 'calibration'"):
        load_experiment(write(tmp_path, "  standard: pipeline_w4a16\n  model: model\n"))


def test_a_step_of_the_same_name_is_refused(tmp_path: Path) -> None:
    steps = f"{DATA}  compress: {{kind: compress, model: model, recipe: w8a8}}\n"
    with pytest.raises(SpecError, match=r"steps\.compress: the pipeline has a step of that name"):
        load_experiment(write(tmp_path, pipeline_text("pipeline_w4a16"), steps))


def test_a_pipeline_alone_is_an_experiment(tmp_path: Path) -> None:
    text = "  standard: pipeline_w4a16\n  model: model\n  calibration: tokens\n"
    text += "  steps: {openllm: {allow_hub: true}}\n"
    file = write(tmp_path, text, steps="")
    with pytest.raises(SpecError) as error:
        load_experiment(file)
    assert "not an experiment file" not in str(error.value)
    assert "experiment.yaml:4:3: steps.compress.calibration: no such file" in str(error.value)
