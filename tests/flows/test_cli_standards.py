"""`labwright standards show`: every value of a standard, resolved, with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.standards import Row, print_standard, rows
from tasks.standards import Standard, StandardKind, every_standard, load


def by_key(kind: StandardKind, name: str) -> dict[str, Row]:
    return {row.key: row for row in rows(load(kind, name))}


def line_of(standard: Standard, text: str) -> int:
    lines = standard.path.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_each_value_of_openllm_is_shown_with_its_line_or_as_a_default() -> None:
    found = by_key(StandardKind.EVALUATION, "openllm")
    standard = load(StandardKind.EVALUATION, "openllm")
    gsm8k = found["groups.openllm.gsm8k"]
    assert gsm8k.value == "{metric: exact_match,strict-match, num_fewshot: 5}"
    assert gsm8k.source == f"openllm.yaml:{line_of(standard, 'gsm8k')}"
    assert found["max_length"] == ("max_length", "4096", "openllm.yaml:11")
    assert found["seed"] == ("seed", "1234", "default of evaluate")
    assert {row.source for row in found.values()} == {
        *(f"openllm.yaml:{n}" for n in (10, 11, 12, 14, 17, 18, 19, 20, 21, 22)),
        "default of evaluate",
    }


def test_a_pipeline_is_shown_with_the_standards_that_it_names() -> None:
    found = by_key(StandardKind.PIPELINE, "pipeline_w4a16")
    assert found["parameters.group_size"].value == "{default: 128, feeds_recipe: true}"
    place = "steps.compress.recipe.modifiers.0.GPTQModifier.config_groups.group_0.weights"
    assert found[f"{place}.group_size"].value == "128"
    assert found[f"{place}.group_size"].source.startswith("w4a16.yaml:")
    assert found["steps.openllm.standard.max_length"].source == "openllm.yaml:11"


@pytest.mark.parametrize("standard", every_standard(), ids=lambda s: f"{s.kind}-{s.name}")
def test_no_value_of_any_standard_is_without_a_source(standard: Standard) -> None:
    for row in rows(standard):
        path, _, line = row.source.partition(":")
        assert row.source.startswith("default of ") or (path.endswith(".yaml") and line.isdigit())


def test_show_prints_where_the_standard_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    print_standard("leaderboard")
    shown = capsys.readouterr().out
    assert "evaluation standard leaderboard, version 1" in shown
    assert "Reference standard leaderboard" in shown
    assert str(Path("standards", "evaluation", "leaderboard.yaml")) in shown
    assert "leaderboard_bbh_navigate" in shown
