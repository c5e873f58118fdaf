"""A standard by name, by path or inline, refined by overrides, never contradicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.evaluate.spec import EvaluateSpec

MODEL = ArtifactRef(kind=ArtifactKind.MODEL, digest="0" * 64, size_bytes=1, name="m")
OWN = """\
name: our_suite
version: 1
description: What this lab looks at before anything else.
source: This lab.
content:
  tasks: [gsm8k]
  max_length: 2048
  groups:
    our_suite: {gsm8k: {metric: "exact_match,strict-match", num_fewshot: 8}}
"""


def spec(base_dir: Path | None = None, **fields: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate(
        {"model": MODEL, "allow_hub": True, **fields},
        context={"base_dir": base_dir} if base_dir else None,
    )


def complaint(**fields: Any) -> tuple[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as error:
        spec(**fields)
    (details,) = error.value.errors()
    return details["loc"], str(details["ctx"]["error"])


def test_name_path_and_inline_make_the_same_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "our_suite.yaml").write_text(OWN)
    by_path = spec(tmp_path, standard="lab/evaluation/our_suite.yaml")
    inline = spec(
        standard={
            "tasks": ["gsm8k"],
            "max_length": 2048,
            "groups": {
                "our_suite": {"gsm8k": {"metric": "exact_match,strict-match", "num_fewshot": 8}}
            },
        }
    )
    monkeypatch.setenv("LABWRIGHT_STANDARDS_FOLDER", str(tmp_path / "lab"))
    assert spec(standard="our_suite") == by_path == inline
    assert by_path.standard is None, "content counts, not what it was called"


def test_overrides_change_what_the_standard_says_and_the_rest_stays() -> None:
    found = spec(standard="openllm", overrides={"max_length": 2048, "tasks": ["gsm8k"]}, limit=8)
    assert (found.max_length, found.tasks, found.limit) == (2048, ("gsm8k",), 8)
    assert found.groups == spec(standard="openllm").groups


def test_a_key_given_twice_with_one_value_is_fine() -> None:
    assert spec(standard="openllm", max_length=4096, tasks=["openllm"]) == spec(standard="openllm")


def test_a_key_given_twice_with_two_values_is_an_error_that_names_both_places() -> None:
    place, words = complaint(standard="openllm", max_length=2048)
    assert place == ("max_length",)
    assert words.startswith("2048 here, 4096 in standard 'openllm' (/")
    assert "standards/evaluation/openllm.yaml:11:3)" in words
    assert "overrides: {max_length: 2048}" in words


def test_every_contradiction_is_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        spec(standard="openllm", max_length=2048, add_bos_token=False)
    assert {item["loc"] for item in error.value.errors()} == {("max_length",), ("add_bos_token",)}


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"standard": "openlm"}, "standard", "did you mean 'openllm'?"),
        ({"standard": "nowhere/x.yaml"}, "standard", "x.yaml: cannot be read"),
        ({"standard": {"taks": ["a"]}}, "standard", "'taks'; did you mean 'tasks'?"),
        ({"standard": {"content": 3}}, "standard", "an inline standard is a mapping"),
        ({"standard": 3}, "standard", "by name, by path, or as a mapping"),
        (
            {"standard": "openllm", "overrides": {"max_lenght": 1}},
            "overrides",
            "did you mean 'max_length'?; give it beside",
        ),
        (
            {"standard": "openllm", "max_length": 64, "overrides": {"max_length": 32}},
            "overrides",
            "'max_length' is given beside as well: 64 there, 32 here",
        ),
        ({"standard": "openllm", "overrides": 3}, "overrides", "must be a mapping"),
        ({"tasks": ["a"], "overrides": {"limit": 1}}, "overrides", "there is no standard"),
    ],
)
def test_what_names_no_standard_or_changes_none_is_told_at_its_place(
    fields: dict[str, Any], place: str, words: str
) -> None:
    found, message = complaint(**fields)
    assert found == (place,)
    assert words in message


def test_a_spec_without_tasks_is_refused() -> None:
    with pytest.raises(ValidationError, match="give tasks, or a standard that has them"):
        spec()


def test_examples_for_all_tasks_may_not_contradict_those_of_a_group() -> None:
    with pytest.raises(ValidationError, match="num_fewshot is 3, and groups says 25 for arc_chal"):
        spec(standard="openllm", num_fewshot=3)
    twice = {
        "g": {n: {"task": "a", "metric": "acc", "num_fewshot": k} for n, k in (("x", 1), ("y", 2))}
    }
    with pytest.raises(ValidationError, match="groups says num_fewshot 1 and 2 for a"):
        spec(tasks=["a"], groups=twice)


def test_a_resolved_spec_is_its_own_and_needs_no_standard_any_more() -> None:
    found = spec(standard="leaderboard")
    assert EvaluateSpec.model_validate(found.model_dump(mode="json")) == found
