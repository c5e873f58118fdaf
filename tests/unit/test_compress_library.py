"""Our light tables against the installed llmcompressor and compressed-tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.compress.layout import matches, read_layout
from tasks.compress.loaded import layout_of
from tasks.compress.modifiers import (
    INTERNAL_FIELDS,
    MODIFIERS,
    OBSERVERS,
    OBSERVERS_OF_DATA,
    UNSUPPORTED,
    Role,
)
from tasks.compress.quantization import SCHEMES
from tasks.compress.recipe import Modifier
from tests.fakes.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def library() -> dict[str, Any]:
    """Every modifier class of the installed llmcompressor by name."""
    from llmcompressor.modifiers import ModifierFactory

    ModifierFactory.refresh()
    return ModifierFactory._main_registry


def test_every_modifier_is_supported_or_refused_with_a_reason(library: dict[str, Any]) -> None:
    assert {*MODIFIERS, *UNSUPPORTED, "Modifier"} == set(library)


@pytest.mark.parametrize("name", MODIFIERS)
def test_modifier_has_the_fields_of_the_library(name: str, library: dict[str, Any]) -> None:
    kind, library_class = MODIFIERS[name], library[name]
    public = {field for field in library_class.model_fields if not field.endswith("_")}
    assert kind.fields == public - INTERNAL_FIELDS
    assert library_class.__module__.startswith(kind.module)
    assert kind.needs_data is library_class.model_fields["requires_calibration_data"].default


def test_observers_are_those_of_the_library() -> None:
    from llmcompressor.observers import Observer

    names = {name.replace("-", "_") for name in Observer.registered_names()}
    assert set(OBSERVERS) == names
    assert set(OBSERVERS_OF_DATA) <= names


def test_schemes_are_those_of_the_library() -> None:
    from compressed_tensors.quantization.quant_scheme import PRESET_SCHEMES

    assert set(SCHEMES) == set(PRESET_SCHEMES)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "UNQUANTIZED"])
@pytest.mark.parametrize("modifier_name", ["QuantizationModifier", "GPTQModifier"])
def test_a_scheme_spelled_out_means_the_same_to_the_library(
    name: str, modifier_name: str, library: dict[str, Any]
) -> None:
    fields = {"scheme": name, "targets": ["Linear"], "ignore": ["lm_head"]}
    theirs = library[modifier_name](**fields)
    modifier = Modifier.model_validate({modifier_name: fields})
    ours = library[modifier_name](**modifier.fields)
    assert ours.resolved_config.model_dump() == theirs.resolved_config.model_dump()
    assert modifier.needs_data is theirs.requires_calibration_data


def test_only_modifiers_that_prune_or_quantize_are_checked_for_it() -> None:
    roles = {name: kind.role for name, kind in MODIFIERS.items()}
    assert {name for name, role in roles.items() if role is Role.PRUNE} == {
        "SparseGPTModifier",
        "WandaPruningModifier",
    }


@pytest.mark.parametrize("is_tied", [False, True])
def test_headers_tell_the_same_layers_as_the_loaded_model(is_tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    stored = read_layout(build_tiny_model(tmp_path / "model", num_layers=1, tied=is_tied))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    loaded = layout_of(model, stored)
    stored_by_name = {linear.name: linear for linear in stored.linears}
    loaded_by_name = {linear.name: linear for linear in loaded.linears}
    if is_tied:  # stored once, as the embedding
        loaded_by_name.pop("lm_head")
    assert stored_by_name == loaded_by_name
    assert stored.unmatched(["lm_head", "re:.*mlp$", "model.norm"]) == ()
    assert stored.size_bytes == sum(p.nbytes for p in model.parameters())


@pytest.mark.parametrize(
    "pattern",
    ["Linear", "lm_head", "q_proj", "re:q_proj", "re:.*q_proj", "re:.*q_pro$", "Embedding"],
)
def test_patterns_match_as_they_do_in_the_library(pattern: str) -> None:
    from compressed_tensors.utils.match import is_match
    from torch import nn

    for name in ("lm_head", "model.layers.0.self_attn.q_proj"):
        theirs = is_match(name, nn.Linear(1, 1, device="meta"), pattern)
        assert matches(name, pattern) is theirs
