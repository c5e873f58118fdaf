"""Recipes: exact standards, one canonical form, and errors that say what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.compress.spec import CompressSpec

MODEL = ArtifactRef(kind=ArtifactKind.MODEL, digest="a" * 64, size_bytes=1, name="model")
TOKENS = ArtifactRef(kind=ArtifactKind.TOKENS, digest="b" * 64, size_bytes=1, name="tokens")

INT8_TOKENS = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "strategy": "token",
    "dynamic": True,
    "observer": "memoryless_minmax",
    "observer_kwargs": {},
}
FP8_TOKENS = {k: v for k, v in INT8_TOKENS.items() if k != "observer"} | {"type": "float"}
QKV = ["re:.*q_proj", "re:.*k_proj", "re:.*v_proj"]


def weights(num_bits: int, number_type: str, **more: Any) -> dict[str, Any]:
    return {
        "num_bits": num_bits,
        "type": number_type,
        "symmetric": True,
        "dynamic": False,
        "observer": "mse",
        "observer_kwargs": {},
        **more,
    }


def quantized(**arguments: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"targets": ["Linear"], **arguments}}}


# The numbers of the reference's standards, one by one.
GOLDEN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "w4a16": [
        (
            "GPTQModifier",
            {
                "ignore": ["lm_head"],
                "dampening_frac": 0.01,
                **quantized(
                    weights=weights(4, "int", strategy="group", group_size=128, actorder="weight")
                ),
            },
        )
    ],
    "w8a8": [
        (
            "SmoothQuantModifier",
            {
                "smoothing_strength": 0.8,
                "mappings": [
                    [QKV, "re:.*input_layernorm"],
                    [["re:.*gate_proj", "re:.*up_proj"], "re:.*post_attention_layernorm"],
                ],
            },
        ),
        (
            "GPTQModifier",
            {
                "ignore": ["lm_head"],
                "dampening_frac": 0.01,
                **quantized(
                    weights=weights(8, "int", strategy="channel"), input_activations=INT8_TOKENS
                ),
            },
        ),
    ],
    "fp8_dynamic": [
        (
            "QuantizationModifier",
            {
                "ignore": ["lm_head"],
                **quantized(
                    weights=weights(8, "float", strategy="channel"), input_activations=FP8_TOKENS
                ),
            },
        )
    ],
}


def read(value: Any, base_dir: Path = Path("/")) -> Recipe:
    return Recipe.model_validate(parse_recipe(value, base_dir))


def spec(recipe: Any, **fields: Any) -> CompressSpec:
    return CompressSpec(model=MODEL, recipe=recipe, calibration=TOKENS, **fields)


def resolved(recipe: Any, **overrides: Any) -> Recipe:
    made = spec(recipe, **overrides)
    assert isinstance(made.recipe, Recipe)
    return made.resolve_recipe(made.recipe)


@pytest.mark.parametrize("name", GOLDEN)
def test_standard_has_exactly_the_numbers_of_the_reference(name: str) -> None:
    found = [(modifier.name, modifier.fields) for modifier in read(name).modifiers]
    assert found == GOLDEN[name]


@pytest.mark.parametrize("name", ["w8a8", "w4a16", "fp8_dynamic", "awq_w4a16", "sparse_2of4"])
def test_recipe_survives_json_and_its_own_yaml(name: str) -> None:
    recipe = read(name)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert read(recipe.to_yaml()).modifiers == recipe.modifiers
    made = spec(name)
    assert CompressSpec.model_validate(made.model_dump(mode="json")) == made


def test_every_spelling_of_a_recipe_is_one_value(tmp_path: Path) -> None:
    as_list = [{"GPTQModifier": {"scheme": "W8A8", "ignore": "lm_head", "weight_observer": "mse"}}]
    as_stages = """\
    any_stage:
      any_modifiers:
        GPTQModifier:
          scheme: {w8a8: Linear}
          targets: [Linear]
          ignore: [lm_head]
          observer: {weights: mse}
    """
    file = tmp_path / "mine.yaml"
    file.write_text(as_stages)
    inline = "GPTQModifier: {scheme: W8A8, ignore: [lm_head], weight_observer: mse}"
    spellings = [read(as_list), read(as_stages), read(file), read(inline), read(str(file))]
    assert all(spelling == spellings[0] for spelling in spellings)


def test_an_edited_recipe_file_is_another_spec(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("GPTQModifier: {scheme: W8A8}")
    before = spec(file)
    file.write_text("GPTQModifier: {scheme: W4A16}")
    assert spec(file) != before
    assert str(tmp_path) not in before.model_dump_json()


def test_python_tags_are_refused_with_their_place() -> None:
    text = "GPTQModifier:\n  scheme: W4A16\n  ignore: !!python/tuple [lm_head]\n"
    with pytest.raises(ValueError, match=r"recipe:3.*!!python/tuple.*not allowed\n.*as a list"):
        read(text)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("w8a9", "did you mean 'w8a8'"),
        ("recipes/none.yaml", r"no such file: /recipes/none.yaml; .* one of awq_w4a16"),
        ([{"GPTModifier": {}}], "did you mean 'GPTQModifier'"),
        ([{"AutoRoundModifier": {}}], "not supported: it needs the package auto-round"),
        ([{"GPTQModifier": {"dampening_fraction": 1}}], "did you mean 'dampening_frac'"),
        ([{"GPTQModifier": {"scheme": "W4A17"}}], "did you mean 'W4A16'"),
        ([{"GPTQModifier": {"start": 0, "scheme": "W4A16"}}], "cannot be set in a recipe"),
        ([{"GPTQModifier": {}}], "either 'scheme' or 'config_groups'"),
        ([{"GPTQModifier": quantized(weights={"num_bit": 3})}], "did you mean 'num_bits'"),
        ([{"GPTQModifier": quantized(weights={"strategy": "group"})}], "needs a group_size"),
        (
            [{"GPTQModifier": quantized(weights={"num_bits": 5, "type": "float"})}],
            "a float has 4 or 8 bits, not 5",
        ),
        (
            [{"GPTQModifier": quantized(weights={"observer": "mze"})}],
            "no observer 'mze'; did you mean 'mse'",
        ),
        (
            [{"GPTQModifier": quantized(input_activations={"strategy": "token"})}],
            "'token' needs 'dynamic: true'",
        ),
        ([{"SmoothQuantModifier": {"mappings": "lama"}}], "did you mean 'llama'"),
        ([{"AWQModifier": {}}], "follow it with a QuantizationModifier"),
        ([{"GPTQModifier": {"scheme": "W4A16", "dampening_frac": "$damp"}}], "is a placeholder"),
        ([], "at least one modifier"),
        ([{"GPTQModifier": {}, "AWQModifier": {}}], "one modifier a list entry"),
        ("a: 1\na: 2\n", "recipe:2:1: a: duplicate key"),
    ],
)
def test_a_mistake_is_answered_with_what_is_valid(recipe: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(recipe)


def test_all_mistakes_of_a_recipe_are_told_at_once() -> None:
    recipe = [{"GPTQModifier": {"scheme": "W4A17"}}, {"SmoothQuantModifier": {"strength": 1}}]
    with pytest.raises(ValidationError) as caught:
        read(recipe)
    assert "did you mean 'W4A16'" in str(caught.value)
    assert "did you mean 'smoothing_strength'" in str(caught.value)


def test_an_override_replaces_the_value_wherever_there_is_a_place_for_it() -> None:
    recipe = resolved(
        "w4a16", group_size=64, num_bits=8, symmetric=False, observer="minmax", actorder="none",
        dampening_fraction=0.1, ignore=["re:.*mlp.*"],
    )  # fmt: skip
    modifier = recipe.modifiers[0]
    arguments = modifier.groups["group_0"].weights
    assert arguments is not None
    assert (arguments.group_size, arguments.num_bits, arguments.symmetric) == (64, 8, False)
    assert arguments.observer == "minmax"
    assert arguments.actorder is None
    assert modifier.fields["actorder"] is None
    assert modifier.fields["dampening_frac"] == 0.1
    assert modifier.ignore == ("re:.*mlp.*",)


def test_an_override_equal_to_what_stands_there_changes_nothing() -> None:
    assert resolved("w4a16", group_size=128, observer="mse") == resolved("w4a16")


def test_a_recipe_with_every_override_is_written_and_read_back() -> None:
    recipe = resolved(
        "w4a16", group_size=64, num_bits=8, symmetric=False, observer="minmax", actorder="weight",
        dampening_fraction=0.1, ignore=["re:.*mlp.*"],
    )  # fmt: skip
    assert read(recipe.to_yaml()).modifiers == recipe.modifiers


def test_an_override_leaves_activations_alone() -> None:
    before, after = resolved("w8a8"), resolved("w8a8", observer="minmax", smoothing_strength=0.5)
    groups = [recipe.modifiers[1].groups["group_0"] for recipe in (before, after)]
    assert groups[0].input_activations == groups[1].input_activations
    assert after.modifiers[0].fields["smoothing_strength"] == 0.5


@pytest.mark.parametrize(
    ("recipe", "override", "words"),
    [
        ("w4a16", {"smoothing_strength": 0.5}, r"nothing in this recipe \(GPTQModifier\) takes it"),
        ("w8a8", {"group_size": 64}, "it is for weights quantized in groups"),
        ("fp8_dynamic", {"actorder": "weight"}, "it is for GPTQ"),
        ("fp8_dynamic", {"num_bits": 5}, "a float has 4 or 8 bits"),
        ("fp8_dynamic", {"symmetric": False}, "no zero point"),
        ("sparse_2of4", {"num_bits": 4}, "it is for quantized weights"),
        ("w4a16", {"observer": "mze"}, "did you mean 'mse'"),
    ],
)
def test_an_override_that_nothing_takes_is_an_error(
    recipe: str, override: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(recipe, **override)


@pytest.mark.parametrize("name", ["w8a8", "w4a16", "awq_w4a16", "sparse_2of4"])
def test_a_recipe_that_needs_data_is_refused_without(name: str) -> None:
    with pytest.raises(ValidationError, match="needs calibration data: set 'calibration'"):
        CompressSpec(model=MODEL, recipe=name)


def test_a_recipe_that_needs_no_data_runs_without() -> None:
    CompressSpec(model=MODEL, recipe="fp8_dynamic")
    with pytest.raises(ValidationError, match="num_samples: there is no calibration data"):
        CompressSpec(model=MODEL, recipe="fp8_dynamic", num_samples=8)


def test_static_activations_need_data() -> None:
    with pytest.raises(ValidationError, match="QuantizationModifier needs calibration data"):
        CompressSpec(model=MODEL, recipe=[{"QuantizationModifier": {"scheme": "FP8"}}])


def test_a_recipe_may_be_an_artifact_of_an_earlier_step() -> None:
    ref = ArtifactRef(kind=ArtifactKind.RECIPE, digest="c" * 64, size_bytes=1, name="recipe")
    assert spec(ref).recipe == ref
    assert CompressSpec.model_validate(spec(ref).model_dump(mode="json")).recipe == ref
