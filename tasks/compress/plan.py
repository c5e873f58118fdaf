"""What a recipe will do to a model, known before anything is loaded: checks and the size to expect.

problems_of(recipe, read_layout(folder))        # [] or one message for each thing that is wrong
planned_groups(recipe, layout)                  # {"model.layers.0.mlp.up_proj": group, …}
expected_size_bytes(recipe, layout, "pack-quantized")
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from tasks.compress.layout import Linear, ModelLayout, matches, with_parents
from tasks.compress.modifiers import Role
from tasks.compress.quantization import (
    GROUPED,
    QuantizationArguments,
    QuantizationGroup,
    Strategy,
)
from tasks.compress.recipe import Modifier, Recipe

PACKED_BITS = 32  # packed formats store values in int32
WEIGHT_SHAPE_BYTES = 16  # two int64 beside each packed weight
GLOBAL_SCALE_BYTES = 4  # one float32 above the scales of a layer's groups, where there is one
LAYERS_NAMED = 3  # in an error; the rest is counted


def problems_of(recipe: Recipe, layout: ModelLayout) -> list[str]:
    """Everything that would go wrong, in words."""
    problems: list[str] = []
    for modifier in recipe.modifiers:
        for pattern in layout.unmatched(modifier.ignore):
            problems.append(
                f"{modifier.name}.ignore: '{pattern}' matches no module of this model, such as "
                f"{_example(layout)}"
            )
        if modifier.kind.role is Role.QUANTIZE:
            problems += _problems_of_groups(modifier, layout)
        elif modifier.kind.role is Role.PRUNE:
            problems += _problems_of_mask(modifier, layout)
    return problems


def planned_groups(recipe: Recipe, layout: ModelLayout) -> dict[str, QuantizationGroup]:
    """The group by which each linear layer's weight is quantized; the last modifier wins."""
    planned: dict[str, QuantizationGroup] = {}
    for modifier in recipe.modifiers:
        for linear in layout.matching(_targets(modifier), modifier.ignore):
            groups = [group for group in modifier.groups.values() if _specificity(linear, group)]
            chosen = max(groups, key=lambda group: _specificity(linear, group))
            planned[linear.name] = chosen
    return planned


def pruned_linears(modifier: Modifier, layout: ModelLayout) -> list[Linear]:
    """Linear layers that a pruning modifier prunes: those it targets, and those inside a target."""
    targets = _as_list(modifier.fields.get("targets", ["Linear"]))
    return [
        linear
        for linear in layout.linears
        if any(matches(name, target) for name in with_parents(linear.name) for target in targets)
        and not any(matches(linear.name, pattern) for pattern in modifier.ignore)
    ]


def mask_structure(modifier: Modifier) -> tuple[int, int] | None:
    """`(2, 4)` for a mask structure of "2:4"; None where the pattern is free."""
    zeros, _, block = str(modifier.fields.get("mask_structure", "0:0")).partition(":")
    return None if int(block) == 0 else (int(zeros), int(block))


def expected_size_bytes(recipe: Recipe, layout: ModelLayout, format_name: str) -> int:
    """Bytes of all stored tensors after compression; pruned weights are stored dense."""
    by_name = {linear.name: linear for linear in layout.linears}
    size = layout.size_bytes
    for name, group in planned_groups(recipe, layout).items():
        linear, weights = by_name[name], group.weights
        if weights is None:
            continue
        is_stored_once_with_embedding = layout.has_tied_head and name == "lm_head"
        if not is_stored_once_with_embedding:
            size -= linear.num_weights * linear.element_bytes
        size += _stored_bytes(linear, weights, group.format or format_name)
        for arguments in (weights, group.input_activations):
            if arguments is not None and arguments.strategy is Strategy.TENSOR_GROUP:
                size += GLOBAL_SCALE_BYTES
    return size


def _stored_bytes(linear: Linear, weights: QuantizationArguments, format_name: str) -> int:
    is_packed = format_name == "pack-quantized"
    per_scale = {
        Strategy.TENSOR: linear.num_weights,
        Strategy.CHANNEL: linear.in_features,
        Strategy.BLOCK: math.prod(weights.block_structure or (1, 1)),
    }.get(weights.strategy, weights.group_size or linear.in_features)
    num_scales = math.ceil(linear.num_weights / per_scale)
    scale_bytes = 1 if weights.scale_dtype else linear.element_bytes
    bits = weights.num_bits if is_packed or "pack" in format_name else 8
    size = linear.out_features * _packed_bytes(linear.in_features, bits, is_packed)
    size += num_scales * scale_bytes + (WEIGHT_SHAPE_BYTES if is_packed else 0)
    if not weights.symmetric:
        columns = num_scales // linear.out_features
        size += columns * _packed_bytes(linear.out_features, bits, is_packed)
    return size


def _packed_bytes(num_values: int, bits: int, is_packed: bool) -> int:
    if not is_packed:
        return math.ceil(num_values * bits / 8)
    return math.ceil(num_values / (PACKED_BITS // bits)) * PACKED_BITS // 8


def _problems_of_groups(modifier: Modifier, layout: ModelLayout) -> Iterable[str]:
    for name, group in modifier.groups.items():
        linears = layout.matching(group.targets, modifier.ignore)
        if not linears and group.weights is not None:
            yield (
                f"{modifier.name}.config_groups.{name}: {', '.join(group.targets)} matches no "
                f"linear layer of this model, such as {_example(layout)}"
            )
        weights = group.weights
        if weights is None or weights.strategy not in GROUPED or weights.group_size is None:
            continue
        uneven = [linear for linear in linears if linear.in_features % weights.group_size]
        if uneven and not modifier.fields.get("bypass_divisibility_checks"):
            width = math.gcd(*(linear.in_features for linear in linears))
            fitting = 1 << (math.gcd(width, 1 << 7).bit_length() - 1)
            yield (
                f"group_size {weights.group_size} does not divide the input width of "
                f"{_named(uneven)}; group_size {fitting} divides all of them"
            )


def _problems_of_mask(modifier: Modifier, layout: ModelLayout) -> Iterable[str]:
    structure = str(modifier.fields.get("mask_structure", "0:0"))
    if not re.fullmatch(r"\d+:\d+", structure):
        yield f"{modifier.name}.mask_structure: '{structure}' is not like 2:4"
        return
    linears = pruned_linears(modifier, layout)
    if not linears:
        yield f"{modifier.name}.targets: no linear layer matches, such as {_example(layout)}"
    found = mask_structure(modifier)
    if found is None:
        return
    zeros, block = found
    sparsity = modifier.fields.get("sparsity")
    if sparsity != zeros / block:
        yield (
            f"{modifier.name}: mask_structure {structure} makes a sparsity of {zeros / block}, "
            f"but sparsity is {sparsity}"
        )
    uneven = [linear for linear in linears if linear.in_features % block]
    if uneven:
        yield f"blocks of {block} do not divide the input width of {_named(uneven)}"


def _targets(modifier: Modifier) -> list[str]:
    return [target for group in modifier.groups.values() for target in group.targets]


def _specificity(linear: Linear, group: QuantizationGroup) -> int:
    """3 where a target names the layer, 2 where a pattern matches, 1 by class, 0 not at all."""
    ranks = [0]
    for target in group.targets:
        if matches(linear.name, target):
            ranks.append(3 if target == linear.name else 2 if target.startswith("re:") else 1)
    return max(ranks)


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _named(linears: list[Linear]) -> str:
    named = ", ".join(f"{linear.name} ({linear.in_features})" for linear in linears[:LAYERS_NAMED])
    rest = len(linears) - LAYERS_NAMED
    return f"{named} and {rest} more layers" if rest > 0 else named


def _example(layout: ModelLayout) -> str:
    return ", ".join(linear.name for linear in layout.linears[-1:])
