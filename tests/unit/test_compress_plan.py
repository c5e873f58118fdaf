"""What is known from headers before anything is loaded: widths, names, lengths, sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.compress.layout import Linear, ModelLayout
from tasks.compress.plan import expected_size_bytes, planned_groups, problems_of
from tasks.compress.recipe import Recipe
from tasks.compress.recipe_source import parse_recipe
from tasks.compress.spec import CompressSpec

WIDTH, MLP_WIDTH = 576, 1536  # SmolLM2-135M
LINEARS = tuple(
    Linear(f"model.layers.{layer}.{name}", out_features, in_features, element_bytes=2)
    for layer in range(2)
    for name, out_features, in_features in (
        ("self_attn.q_proj", WIDTH, WIDTH),
        ("mlp.up_proj", MLP_WIDTH, WIDTH),
        ("mlp.down_proj", WIDTH, MLP_WIDTH),
    )
)
HEAD = Linear("lm_head", 1000, WIDTH, element_bytes=2)
LAYOUT = ModelLayout(
    linears=(*LINEARS, HEAD),
    modules=frozenset({"model", "model.layers", *(linear.name for linear in (*LINEARS, HEAD))}),
    size_bytes=2 * sum(linear.num_weights for linear in (*LINEARS, HEAD)) + 10_000,
    max_positions=2048,
    has_tied_head=False,
)


def read(value: Any) -> Recipe:
    return Recipe.model_validate(parse_recipe(value, Path("/")))


def gptq(**fields: Any) -> Recipe:
    return read([{"GPTQModifier": {"scheme": "W8A8", "ignore": ["lm_head"], **fields}}])


def test_group_size_that_does_not_divide_a_width_proposes_one_that_does() -> None:
    (problem,) = problems_of(read("w4a16"), LAYOUT)
    assert "group_size 128 does not divide" in problem
    assert "model.layers.0.self_attn.q_proj (576)" in problem
    assert "and 1 more layers" in problem
    assert "group_size 64 divides all of them" in problem


@pytest.mark.parametrize("name", ["w8a8", "fp8_dynamic", "sparse_2of4"])
def test_a_recipe_that_fits_has_no_problems(name: str) -> None:
    assert problems_of(read(name), LAYOUT) == []


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (gptq(ignore=["lm_haed"]), "ignore: 'lm_haed' matches no module of this model"),
        (gptq(ignore=["re:.*experts.*"]), "'re:.*experts.*' matches no module"),
        (gptq(scheme={"W8A8": ["re:.*attn_out"]}), "re:.*attn_out matches no linear layer"),
        (
            read([{"SparseGPTModifier": {"sparsity": 0.7, "mask_structure": "2:4"}}]),
            "mask_structure 2:4 makes a sparsity of 0.5, but sparsity is 0.7",
        ),
        (
            read([{"SparseGPTModifier": {"sparsity": 0.5, "mask_structure": "half"}}]),
            "'half' is not like 2:4",
        ),
    ],
)
def test_what_cannot_work_is_named(recipe: Recipe, words: str) -> None:
    assert any(words in problem for problem in problems_of(recipe, LAYOUT))


def test_the_nearest_target_decides_how_a_layer_is_quantized() -> None:
    groups = {
        "every": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 64}},
        "down": {"targets": ["re:.*down_proj"], "weights": {"num_bits": 8, "group_size": -1}},
        "one": {"targets": [LINEARS[2].name], "weights": {"num_bits": 6, "group_size": -1}},
    }
    modifier = {"QuantizationModifier": {"config_groups": groups, "ignore": ["lm_head"]}}
    planned = planned_groups(read([modifier]), LAYOUT)
    bits = [group.weights.num_bits for group in planned.values() if group.weights]
    assert bits == [4, 4, 6, 4, 4, 8]
    assert HEAD.name not in planned


@pytest.mark.parametrize(
    ("recipe", "format_name", "bytes_per_weight", "scales", "more"),
    [
        (gptq(), "int-quantized", 1.0, "channel", 0),
        (gptq(scheme="W4A16"), "pack-quantized", 0.5, 128, 16),
    ],
)
def test_expected_size_is_bits_and_scales(
    recipe: Recipe, format_name: str, bytes_per_weight: float, scales: Any, more: int
) -> None:
    linear = Linear("model.layers.0.mlp.up_proj", 256, 512, element_bytes=2)
    layout = replace(LAYOUT, linears=(linear,), size_bytes=2 * linear.num_weights + 1000)
    num_scales = 256 if scales == "channel" else 256 * 512 // scales
    expected = 1000 + linear.num_weights * bytes_per_weight + 2 * num_scales + more
    assert expected_size_bytes(recipe, layout, format_name) == expected


def test_a_tied_head_that_is_quantized_adds_to_the_size() -> None:
    recipe = gptq(ignore=[])
    untied = expected_size_bytes(recipe, LAYOUT, "int-quantized")
    tied = expected_size_bytes(recipe, replace(LAYOUT, has_tied_head=True), "int-quantized")
    assert tied - untied == 2 * HEAD.num_weights


def compress_spec(tiny_model: Path, tiny_tokens: Path, **fields: Any) -> CompressSpec:
    return CompressSpec(model=tiny_model, calibration=tiny_tokens, **fields)


def test_local_inputs_are_checked_when_the_spec_is_made(
    tiny_model: Path, tiny_tokens: Path
) -> None:
    compress_spec(tiny_model, tiny_tokens, recipe="w4a16", group_size=64, num_samples=16)
    with pytest.raises(ValidationError) as caught:
        compress_spec(
            tiny_model, tiny_tokens, recipe="w4a16", group_size=96, num_samples=17,
            sequence_length=1000, ignore=["head"],
        )  # fmt: skip
    message = str(caught.value)
    assert "group_size 96 does not divide" in message
    assert "num_samples 17: the calibration data has 16" in message
    assert "sequence_length 1000: sequences have 64 tokens" in message
    assert "more than the 512 positions of the model" in message
    assert "'head' matches no module" in message


def test_tokens_of_the_wrong_kind_are_named(tiny_model: Path) -> None:
    with pytest.raises(ValidationError, match=r"holds no tokens\.safetensors"):
        compress_spec(tiny_model, tiny_model, recipe="w8a8")
