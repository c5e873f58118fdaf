"""A compression recipe in one canonical form: modifiers in order, each with its checked fields.

Named schemes, observers and mappings are spelled out per group of modules, so that two spellings of
a recipe are one value. Unknown modifiers and fields are refused with the nearest valid name.

    Modifier.model_validate({"GPTQModifier": {"scheme": "W4A16", "ignore": "lm_head"}}).groups
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from tasks.compress.modifiers import (
    INTERNAL_FIELDS,
    MODIFIERS,
    SMOOTHQUANT_MAPPINGS,
    UNSUPPORTED,
    ModifierKind,
    Role,
)
from tasks.compress.quantization import (
    QuantizationArguments,
    QuantizationGroup,
    scheme,
)
from tasks.errors import nearest
from tasks.spec import Frozen

OBSERVER_FIELDS = {
    "weight_observer": "weights",
    "input_observer": "input_activations",
    "output_observer": "output_activations",
}
OBSERVER_KEYS = {"weights": "weights", "input": "input_activations", "output": "output_activations"}


class Modifier(Frozen):
    """One modifier of llmcompressor with its fields, canonical."""

    name: str = Field(description="Class name, e.g. GPTQModifier.")
    fields: dict[str, Any] = Field(default_factory=dict, description="Its fields.")

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"a modifier is a mapping {{Name: {{field: value}}}}, not {value!r}")
        if set(value) <= {"name", "fields"} and "name" in value:
            name, fields = value["name"], value.get("fields")
        elif len(value) == 1:
            name, fields = next(iter(value.items()))
        else:
            raise ValueError(f"one modifier a list entry, found {', '.join(map(str, value))}")
        return {"name": name, "fields": _canonical_fields(str(name), fields or {})}

    @property
    def kind(self) -> ModifierKind:
        return MODIFIERS[self.name]

    @property
    def groups(self) -> dict[str, QuantizationGroup]:
        """Quantization groups by name; empty for modifiers that do not quantize."""
        groups = self.fields.get("config_groups", {})
        return {name: QuantizationGroup.model_validate(group) for name, group in groups.items()}

    @property
    def ignore(self) -> tuple[str, ...]:
        return tuple(self.fields.get("ignore", ()))

    @property
    def needs_data(self) -> bool:
        """Whether it cannot run without calibration data."""
        return (
            self.kind.needs_data
            or "kv_cache_scheme" in self.fields
            or any(group.needs_data for group in self.groups.values())
        )

    def replace(self, **fields: Any) -> Modifier:
        """A copy with some fields set anew, checked again."""
        return Modifier(name=self.name, fields={**self.fields, **fields})


class Recipe(Frozen):
    """Modifiers, in the order in which they act."""

    standard: str | None = Field(default=None, description="Name of the standard it came from.")
    modifiers: tuple[Modifier, ...] = Field(description="What is done, in order.")

    @model_validator(mode="after")
    def _is_complete(self) -> Recipe:
        if not self.modifiers:
            raise ValueError("a recipe has at least one modifier")
        quantizes = [modifier.kind.role is Role.QUANTIZE for modifier in self.modifiers]
        for index, modifier in enumerate(self.modifiers):
            if modifier.name == "AWQModifier" and not any(quantizes[index:]):
                raise ValueError(
                    "AWQModifier only scales weights; follow it with a QuantizationModifier"
                )
        return self

    @property
    def needs_data(self) -> tuple[str, ...]:
        """Names of the modifiers that cannot run without calibration data."""
        return tuple(modifier.name for modifier in self.modifiers if modifier.needs_data)

    def to_yaml(self) -> str:
        """YAML that llmcompressor and `parse_recipe` read; one group a modifier keeps the order."""
        groups = {
            f"group_{index}_modifiers": {modifier.name: modifier.fields}
            for index, modifier in enumerate(self.modifiers)
        }
        return yaml.safe_dump({"compress_stage": groups}, sort_keys=False)


def _canonical_fields(name: str, document: Any) -> dict[str, Any]:
    kind = MODIFIERS.get(name)
    if kind is None:
        if name in UNSUPPORTED:
            raise ValueError(f"{name} is not supported: {UNSUPPORTED[name]}")
        hint = nearest(name, MODIFIERS) or f"; there are {', '.join(MODIFIERS)}"
        raise ValueError(f"there is no modifier '{name}'{hint}")
    if not isinstance(document, dict):
        raise ValueError(f"{name}: its fields are a mapping, not {document!r}")
    _refuse_unknown_fields(name, kind, document)
    _refuse_variables(name, document)
    # None means the default, except that it turns GPTQ's activation order off.
    fields = {k: v for k, v in document.items() if v is not None or k == "actorder"}
    if isinstance(fields.get("ignore"), str):
        fields["ignore"] = [fields["ignore"]]
    if kind.role is Role.QUANTIZE:
        fields = _canonical_quantization(name, fields)
    if isinstance(fields.get("mappings"), str):
        table = fields["mappings"]
        if table not in SMOOTHQUANT_MAPPINGS:
            hint = nearest(table, SMOOTHQUANT_MAPPINGS)
            known = ", ".join(SMOOTHQUANT_MAPPINGS)
            raise ValueError(f"{name}: there are no mappings named '{table}'{hint}; {known} are")
        fields["mappings"] = SMOOTHQUANT_MAPPINGS[table]
    return fields


def _refuse_unknown_fields(name: str, kind: ModifierKind, fields: dict[str, Any]) -> None:
    problems = []
    for field in fields:
        if field in INTERNAL_FIELDS:
            problems.append(f"{name}.{field}: cannot be set in a recipe")
        elif field not in kind.fields:
            hint = nearest(str(field), kind.fields) or f"; it has {', '.join(sorted(kind.fields))}"
            problems.append(f"{name}.{field}: unknown field{hint}")
    if problems:
        raise ValueError("\n".join(problems))


def _refuse_variables(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_variables(name, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_variables(name, item)
    elif isinstance(value, str) and value.startswith("$"):
        raise ValueError(
            f"{name}: '{value}' is a placeholder; write a value here, and set it per run with the "
            "step's own fields (group_size, num_bits, dampening_fraction, …)"
        )


def _canonical_quantization(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Spell schemes and observers out as `config_groups`."""
    fields = dict(fields)
    groups, named = fields.pop("config_groups", None), fields.pop("scheme", None)
    targets = fields.pop("targets", ["Linear"])
    observers = _observers(name, fields)
    if (groups is None) == (named is None):
        raise ValueError(f"{name}: give either 'scheme' or 'config_groups'")
    if groups is not None and targets not in ("Linear", ["Linear"]):
        raise ValueError(f"{name}: with config_groups, targets stand in each group")
    if isinstance(named, str):
        named = {named: targets}
    if named is not None:
        built = {f"group_{i}": scheme(key, value) for i, (key, value) in enumerate(named.items())}
    else:
        built = {key: _group(f"{name}.config_groups.{key}", group) for key, group in groups.items()}
    canonical = {}
    for key, group in built.items():
        document = group.model_dump(mode="json", exclude_none=True)
        for part, observer in observers.items():
            if part in document:
                document[part]["observer"] = observer
        canonical[key] = _group(f"{name}.config_groups.{key}", document).model_dump(
            mode="json", exclude_none=True
        )
    return {**fields, "config_groups": canonical}


def _observers(name: str, fields: dict[str, Any]) -> dict[str, str]:
    single = {part: fields.pop(field) for field, part in OBSERVER_FIELDS.items() if field in fields}
    several = fields.pop("observer", {})
    if single and several:
        raise ValueError(f"{name}: give 'observer' or weight_observer and the like, not both")
    unknown = set(several) - set(OBSERVER_KEYS)
    if unknown:
        raise ValueError(f"{name}.observer: its keys are weights, input, output, not {unknown}")
    return single or {OBSERVER_KEYS[key]: observer for key, observer in several.items()}


def _group(place: str, document: Any) -> QuantizationGroup:
    try:
        return QuantizationGroup.model_validate(document)
    except ValidationError as error:
        valid = [*QuantizationGroup.model_fields, *QuantizationArguments.model_fields]
        problems = []
        for item in error.errors():
            where = ".".join([place, *map(str, item["loc"])])
            what = item["msg"].removeprefix("Value error, ")
            if item["type"] == "extra_forbidden":
                what = f"unknown field{nearest(str(item['loc'][-1]), valid)}"
            problems.append(f"{where}: {what}")
        raise ValueError("\n".join(problems)) from error
