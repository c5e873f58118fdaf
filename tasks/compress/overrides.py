"""Typed overrides of a recipe: one rule, for people and for searches.

An override replaces the value wherever the recipe has a place for it, whatever stood there; one for
which no modifier has a place is an error. Weights are meant: an override never touches how
activations are quantized.

    apply_overrides(recipe, {"group_size": 64, "dampening_fraction": 0.05})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from tasks.compress.modifiers import Role
from tasks.compress.quantization import GROUPED, QuantizationGroup
from tasks.compress.recipe import Modifier, Recipe

Change = Callable[[Modifier, Any], Modifier]  # returns the same object where it has no place


def apply_overrides(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with every override (field of the spec -> value, never None) in its place.

    ValueError lists all overrides that have none, and values that do not fit.
    """
    problems = []
    modifiers = list(recipe.modifiers)
    for name, value in overrides.items():
        change, where = OVERRIDES[name]
        try:
            changed = [change(modifier, value) for modifier in modifiers]
        except ValidationError as error:
            problems += [f"{name}: {value} does not fit: {item['msg']}" for item in error.errors()]
            continue
        if all(new is old for new, old in zip(changed, modifiers, strict=True)):
            have = ", ".join(modifier.name for modifier in modifiers)
            problems.append(f"{name}: nothing in this recipe ({have}) takes it; it is for {where}")
        modifiers = changed
    if problems:
        raise ValueError("\n".join(problems))
    return Recipe(standard=recipe.standard, modifiers=tuple(modifiers))


def _set_field(field: str) -> Change:
    def change(modifier: Modifier, value: Any) -> Modifier:
        has_place = field in modifier.kind.fields
        return modifier.replace(**{field: value}) if has_place else modifier

    return change


def _set_weights(
    field: str, applies: Callable[[QuantizationGroup], bool] = lambda _: True
) -> Change:
    def change(modifier: Modifier, value: Any) -> Modifier:
        groups = {}
        for name, group in modifier.groups.items():
            if group.weights is None or not applies(group):
                continue
            document = group.model_dump(mode="json", exclude_none=True)
            document["weights"][field] = value
            groups[name] = document
        if not groups:
            return modifier
        return modifier.replace(config_groups={**modifier.fields["config_groups"], **groups})

    return change


def _set_ignore(modifier: Modifier, value: Any) -> Modifier:
    compresses = modifier.kind.role in (Role.QUANTIZE, Role.PRUNE)
    return modifier.replace(ignore=list(value)) if compresses else modifier


def _set_actorder(modifier: Modifier, value: Any) -> Modifier:
    if modifier.name != "GPTQModifier":
        return modifier
    groups = {name: _without_actorder(group) for name, group in modifier.groups.items()}
    order = None if value == "none" else str(value)  # plain text, as recipes are written as YAML
    return modifier.replace(actorder=order, config_groups=groups)


def _without_actorder(group: QuantizationGroup) -> dict[str, Any]:
    document = group.model_dump(mode="json", exclude_none=True)
    document.get("weights", {}).pop("actorder", None)
    return document


def _is_grouped(group: QuantizationGroup) -> bool:
    return group.weights is not None and group.weights.strategy in GROUPED


OVERRIDES: dict[str, tuple[Change, str]] = {
    "dampening_fraction": (_set_field("dampening_frac"), "GPTQ and SparseGPT"),
    "group_size": (_set_weights("group_size", _is_grouped), "weights quantized in groups"),
    "num_bits": (_set_weights("num_bits"), "quantized weights"),
    "actorder": (_set_actorder, "GPTQ"),
    "observer": (_set_weights("observer"), "quantized weights"),
    "smoothing_strength": (_set_field("smoothing_strength"), "SmoothQuant"),
    "ignore": (_set_ignore, "modifiers that quantize or prune"),
    "symmetric": (_set_weights("symmetric"), "quantized weights"),
}
