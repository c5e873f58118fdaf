"""The whole body of prepare on a small corpus: what comes out fits together and leaks nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tasks.artifacts import ArtifactKind
from tasks.prepare.check import check
from tasks.prepare.spec import PrepareResult, PrepareSpec
from tests.fakes.workbench import Workbench, write_corpus

MODEL = {
    "kind": "config",
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}


def prepare_spec(bench: Workbench, corpus: Path, **changes: Any) -> PrepareSpec:
    fields: dict[str, Any] = {
        "model": MODEL,
        "tokenizer": {"kind": "train", "vocab_size": 400},
        "text": {
            "source": bench.ref(corpus, ArtifactKind.TEXT),
            "target_document_characters": None,
        },
        "split": {"validation_fraction": 0.15, "test_fraction": 0.15},
        "sequence_length": 32,
        "calibration": {"num_samples": 8, "sequence_length": 32},
        "heldout": {"num_documents": 5, "num_choice_items": 12},
    }
    return PrepareSpec.model_validate(fields | changes)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("prepare"))


@pytest.fixture(scope="module")
def corpus(bench: Workbench) -> Path:
    return write_corpus(bench.folder / "corpus")


@pytest.fixture(scope="module")
def prepared(bench: Workbench, corpus: Path) -> PrepareResult:
    from tasks.prepare.body import main

    spec = prepare_spec(bench, corpus)
    result = bench.run(main, spec)
    check(spec, result, bench.path)
    return result


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_spec_gives_the_same_bytes(
    bench: Workbench, corpus: Path, prepared: PrepareResult
) -> None:
    from tasks.prepare.body import main

    assert bench.run(main, prepare_spec(bench, corpus), "again") == prepared


def test_another_seed_gives_other_weights_and_nothing_else(
    bench: Workbench, corpus: Path, prepared: PrepareResult
) -> None:
    from tasks.prepare.body import main

    spec = prepare_spec(bench, corpus, model={**MODEL, "seed": 1})
    other = bench.run(main, spec, "other-seed")
    assert other.model != prepared.model
    assert other.model_copy(update={"model": prepared.model}) == prepared


def test_no_test_document_is_in_training_or_calibration_tokens(
    bench: Workbench, prepared: PrepareResult
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bench.path(prepared.tokenizer))
    held_out = [
        row["text"] for row in rows(bench.path(prepared.test_documents) / "documents.jsonl")
    ]
    assert prepared.counts is not None
    assert len(held_out) == prepared.counts.test.num_documents > 5
    for tokens in (prepared.train_tokens, prepared.calibration):
        ids = load_file(bench.path(tokens) / "tokens.safetensors")["input_ids"]
        seen = tokenizer.decode(ids.flatten().tolist())
        assert not [text for text in held_out if text[: len(text) // 4] in seen]


def test_the_tasks_are_made_of_test_documents_only(
    bench: Workbench, prepared: PrepareResult
) -> None:
    documents = {
        row["id"]: row["text"]
        for row in rows(bench.path(prepared.test_documents) / "documents.jsonl")
    }
    tasks = bench.path(prepared.eval_tasks)
    texts = rows(tasks / "heldout_text.jsonl")
    assert len(texts) == 5
    assert all(documents[row["id"]] == row["text"] for row in texts)
    items = rows(tasks / "heldout_choice.jsonl")
    assert len(items) == 12
    for item in items:
        right = item["choices"][item["gold"]]
        assert f"{item['context']} {right}" in documents[item["id"].split(":")[0]]
        for choice in item["choices"]:
            assert any(choice in text for text in documents.values())


def test_task_files_name_their_data_without_a_path(
    bench: Workbench, prepared: PrepareResult
) -> None:
    import yaml

    tasks = bench.path(prepared.eval_tasks)
    for name in ("heldout_text", "heldout_choice"):
        task = yaml.safe_load((tasks / f"{name}.yaml").read_text())
        assert task["task"] == name
        assert task["dataset_kwargs"]["data_files"]["test"] == f"{name}.jsonl"


def test_every_sequence_decodes_to_the_text_it_was_made_of(
    bench: Workbench, prepared: PrepareResult
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bench.path(prepared.tokenizer))
    ids = load_file(bench.path(prepared.train_tokens) / "tokens.safetensors")["input_ids"]
    assert prepared.counts is not None
    assert ids.shape == (prepared.counts.train.num_sequences, 32)
    assert ids[0, 0] == tokenizer.eos_token_id
    text = tokenizer.decode(ids.flatten().tolist())
    first = text.split("<|endoftext|>")[1]
    books = "".join(path.read_text() for path in sorted((bench.folder / "corpus").glob("*.txt")))
    assert first in books
    assert tokenizer.chat_template is not None


def test_the_new_model_loads_and_answers_from_its_folder(
    bench: Workbench, prepared: PrepareResult
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = bench.path(prepared.model)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == prepared.num_parameters
    assert model.config.vocab_size == len(tokenizer) == prepared.vocab_size
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "ba do ki"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]


def test_a_model_folder_is_taken_over_without_programs_or_pickles(
    bench: Workbench, prepared: PrepareResult, corpus: Path
) -> None:
    from shutil import copytree

    from tasks.prepare.body import main

    source = copytree(bench.path(prepared.model), bench.folder / "downloaded")
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    spec = prepare_spec(
        bench,
        corpus,
        model={"kind": "folder", "path": bench.ref(source, ArtifactKind.MODEL)},
        tokenizer={"kind": "model"},
    )
    result = bench.run(main, spec, "from-folder")
    assert result == prepared

    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    spec = PrepareSpec.model_validate(
        {"model": {"kind": "folder", "path": bench.ref(source, ArtifactKind.MODEL)}}
    )
    with pytest.raises(ValueError, match="wants to run Python code"):
        bench.run(main, spec, "remote-code")


def test_a_folder_with_pickled_weights_only_is_refused(bench: Workbench) -> None:
    from tasks.prepare.body import main

    source = bench.folder / "pickled"
    source.mkdir()
    (source / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    model = {"kind": "folder", "path": bench.ref(source, ArtifactKind.MODEL)}
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, pickled weights"):
        bench.run(main, PrepareSpec.model_validate({"model": model}), "no-safetensors")


def test_a_tokenizer_larger_than_the_model_is_refused(bench: Workbench, corpus: Path) -> None:
    from tasks.prepare.body import main

    spec = prepare_spec(bench, corpus, model={**MODEL, "vocab_size": 300})
    with pytest.raises(ValueError, match="400 entries and the model only 300 rows"):
        bench.run(main, spec, "too-small")


def test_weights_cut_short_do_not_pass_the_check(
    bench: Workbench, corpus: Path, prepared: PrepareResult, tmp_path: Path
) -> None:
    from shutil import copytree

    broken = copytree(bench.path(prepared.model), tmp_path / "model")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    def open_artifact(ref: Any) -> Path:
        return broken if ref == prepared.model else bench.path(ref)

    with pytest.raises(ValueError, match="its header promises"):
        check(prepare_spec(bench, corpus), prepared, open_artifact)
