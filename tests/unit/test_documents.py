"""YAML that people write: what is read, what is refused, and the place that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.documents import load_yaml, parse_yaml
from tasks.errors import Problem, SpecError


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as refused:
        parse_yaml(text, "file.yaml")
    return refused.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("1e-3", 0.001),
        ("3.", 3.0),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("-7", -7),
        ("1_000", "1_000"),
        (".inf", float("inf")),
        ("~", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object):
    read = parse_yaml(text, "file.yaml")[0]
    assert read == value
    assert type(read) is type(value)


def test_every_key_and_item_has_its_line_and_column():
    _, marks = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "file.yaml")
    places = {location: (mark.line, mark.column) for location, mark in marks.items()}
    assert places[("a", "b")] == (2, 3)
    assert places[("a", "c", 0)] == (4, 7)
    assert places[("a", "c", 1, "d")] == (5, 8)


def test_the_mark_of_an_absent_key_is_its_parents(tmp_path: Path):
    path = tmp_path / "file.yaml"
    path.write_text("a:\n  b: 1\n")
    assert load_yaml(path).mark(("a", "absent")).line == 1


def test_anchors_and_merge_keys_work_and_own_keys_win():
    value, marks = parse_yaml(
        "base: &base {x: 1, y: 2}\nother: &other {y: 5, z: 6}\n"
        "one:\n  <<: [*base, *other]\n  x: 3\ntwo: *base\n",
        "file.yaml",
    )
    assert value["one"] == {"x": 3, "y": 2, "z": 6}
    assert value["two"] == {"x": 1, "y": 2}
    assert marks[("one", "z")].line == 2


def test_all_duplicate_keys_are_named_with_both_lines():
    first, second = problems("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n")
    assert (first.line, first.key) == (2, "a")
    assert "line 1" in first.message
    assert (second.line, second.column, second.key) == (5, 3, "b.c")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: !!python/object/apply:os.system ['true']", 1, "tag"),
        ("a: 1\nb: !secret x", 2, "tag '!secret' is not allowed"),
        ("a:\n\tb: 1", 2, "tab"),
        ("a: 1\n  b: 2", 2, "indentation"),
        ("a: [1, 2", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "more than one document"),
        ("1: x", 1, "keys are text"),
        ("a: &a [*a]", 1, "within what it names"),
        ("a: &a\n  <<: *a\n", 1, "within what it names"),
        ("a: *nothing", 1, "undefined alias"),
        ("a:\n  <<: 3\n", 2, "takes a mapping"),
    ],
)
def test_what_is_refused_names_its_line(text: str, line: int, words: str):
    problem = problems(text)[0]
    assert problem.line == line
    assert words in problem.message


def test_a_billion_laughs_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    assert "expand to more than" in problems("\n".join(lines))[0].message


def test_deep_nesting_is_refused_in_words():
    assert "nested deeper" in problems("[" * 300 + "]" * 300)[0].message
    assert "nested deeper" in problems("[" * 5000 + "]" * 5000)[0].message


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \x07"])
def test_bytes_that_are_not_text_are_refused_in_words(tmp_path: Path, content: bytes):
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as refused:
        load_yaml(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read: No such file"):
        load_yaml(tmp_path / "absent.yaml")
