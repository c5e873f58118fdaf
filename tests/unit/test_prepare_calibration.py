"""Calibration sequences: text or chat, seeded choice and order, all of it part of the identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tasks.artifacts import ArtifactKind
from tasks.canonical import canonical_json
from tasks.prepare.body import main
from tasks.prepare.spec import PrepareSpec
from tests.fakes.tiny_model import build_tiny_model
from tests.fakes.workbench import Workbench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def model(bench: Workbench) -> Path:
    return build_tiny_model(bench.folder / "model")


@pytest.fixture(scope="module")
def conversations(bench: Workbench) -> Path:
    """JSON lines of the shape that hub datasets for calibration have."""
    file = bench.folder / "chats.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} and {n}?"},
                {"role": "assistant", "content": f"It is {2 * n}, as {n} and {n} make {2 * n}."},
            ]
        }
        for n in range(60)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def spec(bench: Workbench, model: Path, source: Path, **calibration: Any) -> PrepareSpec:
    text: dict[str, Any] = {
        "source": bench.ref(source, ArtifactKind.TEXT),
        "min_characters": 1,
        "format": "jsonl",
        "text_field": "messages",
    }
    return PrepareSpec.model_validate(
        {
            "tokenizer": {"kind": "folder", "path": bench.ref(model, ArtifactKind.MODEL)},
            "text": text,
            "calibration": {"num_samples": 4, "sequence_length": 64, **calibration},
        }
    )


def decoded(bench: Workbench, model: Path, made: PrepareSpec, name: str) -> str:
    from transformers import AutoTokenizer

    result = bench.run(main, made, name)
    ids = load_file(bench.path(result.calibration) / "tokens.safetensors")["input_ids"]
    assert ids.shape == (4, 64)
    text: str = AutoTokenizer.from_pretrained(model).decode(ids.reshape(-1))
    return text


def test_chat_calibration_is_the_conversation_in_the_models_own_template(
    bench: Workbench, model: Path, conversations: Path
) -> None:
    text = decoded(bench, model, spec(bench, model, conversations, template="chat"), "chat")
    assert text.count("<|im_start|>user\nWhat is ") >= 4
    assert "<|im_end|>\n<|im_start|>assistant\nIt is " in text


def test_text_calibration_of_a_conversation_is_what_was_said(
    bench: Workbench, model: Path, conversations: Path
) -> None:
    text = decoded(bench, model, spec(bench, model, conversations), "text")
    assert "<|im_start|>" not in text
    assert "?\n\nIt is " in text


def test_a_plain_document_is_a_users_message_in_a_chat(bench: Workbench, model: Path) -> None:
    file = bench.folder / "plain.jsonl"
    rows = [json.dumps({"messages": f"Winds do shake the {n} buds of May."}) for n in range(60)]
    file.write_text("\n".join(rows))
    text = decoded(bench, model, spec(bench, model, file, template="chat"), "plain")
    assert "<|im_start|>user\nWinds do shake the " in text


def test_seed_and_template_make_another_identity_and_another_order(
    bench: Workbench, model: Path, conversations: Path
) -> None:
    made = [
        spec(bench, model, conversations, **changes)
        for changes in ({}, {"seed": 1}, {"template": "chat"})
    ]
    assert len({canonical_json(one) for one in made}) == 3
    first, again, other = (
        bench.run(main, one, name).calibration
        for one, name in zip((made[0], made[0], made[1]), ("a", "b", "c"), strict=True)
    )
    assert first == again
    assert first != other


def test_a_chat_without_a_template_is_refused_in_words(
    bench: Workbench, model: Path, conversations: Path
) -> None:
    bare = build_tiny_model(bench.folder / "bare-model")
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="the tokenizer has no chat template: use text"):
        bench.run(main, spec(bench, bare, conversations, template="chat"), "bare")


def test_a_line_whose_messages_are_none_is_named(bench: Workbench, model: Path) -> None:
    file = bench.folder / "broken.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user"}]}))
    with pytest.raises(ValueError, match=r"broken.jsonl:1: no text under 'messages'"):
        bench.run(main, spec(bench, model, file), "broken")
