"""What prepare refuses before anything runs, in words that say what to type instead."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.prepare.spec import PrepareSpec

LLAMA = {
    "kind": "config",
    "hidden_size": 128,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 384,
}
BPE = {"kind": "train", "vocab_size": 512}
HUB = {"kind": "hub", "id": "org/model", "revision": "0" * 40}
TEXT = {"source": __file__}


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        PrepareSpec(**fields)
    return str(caught.value)


def test_a_whole_preparation_is_accepted() -> None:
    spec = PrepareSpec.model_validate(
        {"model": LLAMA, "tokenizer": BPE, "text": TEXT, "sequence_length": 64, "heldout": {}}
    )
    assert spec.split.test_fraction == 0.05


def test_a_branch_of_the_hub_is_refused_with_the_command_that_shows_its_commit() -> None:
    words = refusal(model={**HUB, "revision": "main"})
    assert "git ls-remote https://huggingface.co/org/model main" in words
    assert PrepareSpec.model_validate({"model": HUB}).model is not None


def test_every_missing_part_is_named_at_once() -> None:
    words = refusal(model=LLAMA, sequence_length=64, calibration={}, heldout={})
    for part in ("sequence_length", "calibration", "heldout"):
        assert f"{part} needs 'text'" in words
    for part in ("a model of kind 'config'", "sequence_length", "calibration"):
        assert f"{part} needs 'tokenizer'" in words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "nothing to prepare"),
        ({"tokenizer": BPE}, "tokenizer of kind 'train' needs 'text'"),
        ({"tokenizer": {"kind": "model"}}, "needs a model that brings one"),
        ({"model": HUB, "tokenizer": BPE, "text": TEXT}, "does not fit a model with weights"),
        (
            {"text": TEXT, "heldout": {}, "split": {"test_fraction": 0}},
            "heldout needs split.test_fraction above 0",
        ),
        ({"text": {**TEXT, "encoding": "utf-9"}}, "unknown encoding 'utf-9'"),
        ({"text": {**TEXT, "document_separator": "("}}, "'(' is not a regular expression"),
        ({"text": {"source": "no/such/file"}}, "no such file or folder"),
        ({"text": TEXT, "split": {"validation_fraction": 0.6, "test_fraction": 0.4}}, "nothing to"),
        ({"model": {**LLAMA, "num_heads": 3}}, "hidden_size 128 is not a multiple of num_heads 3"),
        ({"model": {**LLAMA, "num_key_value_heads": 3}}, "multiple of num_key_value_heads 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_value(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(**fields)


def test_specs_load_no_heavy_package() -> None:
    code = (
        "import sys, tasks.prepare, tasks.train, tasks.prepare.splits, tasks.prepare.check;"
        "heavy = {'torch', 'transformers', 'tokenizers', 'datasets', 'prefect', 'gguf', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
