"""pydantic's complaints in our words: the line, what was found, what is valid, the nearest name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from tasks.artifacts import Input
from tasks.documents import load_yaml
from tasks.errors import Problem
from tasks.problems import problems_from
from tasks.spec import Frozen, Spec


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Folder(Frozen):
    kind: Literal["folder"]
    path: str = Field(description="Where it lies.")


class Config(Frozen):
    kind: Literal["config"]
    hidden_size: int = Field(gt=0, description="Width.")


class Leaf(Frozen):
    rate: float = Field(default=0.1, gt=0, lt=1, description="A rate.")
    names: tuple[str, ...] = Field(default=(), description="Names.")


class Tree(Spec):
    num_steps: int = Field(ge=1, description="How many steps.")
    colour: Colour = Field(default=Colour.RED, description="A colour.")
    model: Annotated[Folder | Config, Field(discriminator="kind")] | None = None
    leaves: dict[str, Leaf] = Field(default_factory=dict)
    seed: int | Leaf = 0
    data: Input | None = None


def problems(folder: Path, text: str) -> list[Problem]:
    path = folder / "file.yaml"
    path.write_text(text)
    document = load_yaml(path)
    with pytest.raises(ValidationError) as refused:
        Tree.model_validate(document.value, context={"base_dir": folder})
    return problems_from(refused.value, document, (), Tree)


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("num_step: 3", "num_step", "unknown key; did you mean 'num_steps'?"),
        ("colour: gren", "colour", "one of red, green, found 'gren'; did you mean 'green'?"),
        ("model: {kind: confg}", "model", "one of folder, config, found 'confg'; did you mean"),
        ("model: {hidden_size: 3}", "model", "needs 'kind'"),
        ("model: {kind: config, hidden_size: 0}", "model.hidden_size", "must be above 0, found 0"),
        ("model: {kind: config, hidden_sze: 1}", "model.hidden_sze", "did you mean 'hidden_size'?"),
        ("model: {kind: config}", "model.hidden_size", "is required: Width."),
        ("leaves: {a: {rate: fast}}", "leaves.a.rate", "must be a number, found 'fast'"),
        ("leaves: {a: {rat: 0.5}}", "leaves.a.rat", "did you mean 'rate'?"),
        ("leaves: {a: {names: [x, 3]}}", "leaves.a.names.1", "must be text, found 3"),
        ("seed: {rate: 2}", "seed.rate", "must be below 1, found 2"),
        ("seed: x", "seed", "must be a whole number, found 'x'"),
        ("data: absent.txt", "data", "no such file or folder"),
    ],
)
def test_a_problem_has_line_key_and_words(tmp_path: Path, line: str, key: str, words: str):
    found = problems(tmp_path, f"num_steps: 1\n{line}\n")
    by_key = {problem.key: problem for problem in found}
    assert words in by_key[key].message
    assert by_key[key].line == 2
    assert by_key[key].source.endswith("file.yaml")


def test_all_problems_of_a_file_come_at_once(tmp_path: Path):
    found = problems(tmp_path, "colour: blue\nextra: 1\nleaves: {a: {rate: 3}}\n")
    assert {problem.key for problem in found} == {"num_steps", "colour", "extra", "leaves.a.rate"}


def test_a_missing_key_is_placed_at_its_parent_with_its_description(tmp_path: Path):
    (problem,) = problems(tmp_path, "colour: red\n")
    assert (problem.key, problem.message) == ("num_steps", "is required: How many steps.")


def test_a_problem_inside_a_union_member_is_not_blamed_on_the_union(tmp_path: Path):
    (problem,) = problems(tmp_path, "num_steps: 1\nseed: {rate: 2}\n")
    assert problem.key == "seed.rate"
