"""A GGUF file becomes a plain model folder: the same weights, and its own special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.artifacts import ArtifactKind
from tasks.prepare.spec import PrepareSpec
from tests.fakes.tiny_model import build_tiny_model
from tests.fakes.workbench import Workbench

END_OF_TURN = 2  # another token than the beginning of text, as in chat models


def interleaved(weight: Any, num_heads: int) -> Any:
    """GGUF keeps the two halves of a rotary pair side by side; Hugging Face half a head apart."""
    rows, columns = weight.shape
    halves = weight.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model: Path, target: Path) -> dict[str, Any]:
    """Write a tiny Llama folder as GGUF; returns its weights by their Hugging Face names."""
    import torch
    from gguf import GGUFWriter
    from safetensors.torch import load_file

    weights = {
        name: tensor.to(torch.float32).numpy()
        for name, tensor in load_file(model / "model.safetensors").items()
    }
    config = json.loads((model / "config.json").read_text())
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = GGUFWriter(target, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary["vocab"], key=vocabulary["vocab"].get))
    writer.add_token_types([3, 3, 3] + [1] * (len(vocabulary["vocab"]) - 3))
    writer.add_token_merges([" ".join(pair) for pair in vocabulary["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END_OF_TURN)
    writer.add_pad_token_id(0)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, weight in weights.items():
        if "q_proj" in name:
            weight = interleaved(weight, heads)
        elif "k_proj" in name:
            weight = interleaved(weight, key_heads)
        short = name.replace("model.layers.", "blk.")
        for theirs, ours in names.items():
            short = short.replace(theirs, ours)
        writer.add_tensor(short, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_a_gguf_gives_back_its_weights_and_its_own_end_of_turn(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    from tasks.prepare.body import main

    bench = Workbench(tmp_path)
    written = write_gguf(build_tiny_model(tmp_path / "source"), tmp_path / "tiny.gguf")
    file = bench.ref(tmp_path / "tiny.gguf", ArtifactKind.FILE)
    model = {"kind": "gguf", "file": file, "dtype": "float32"}
    result = bench.run(main, PrepareSpec.model_validate({"model": model}))
    folder = bench.path(result.model)
    found = load_file(folder / "model.safetensors")
    assert found.keys() == written.keys()
    for name, weight in written.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ids == (1, END_OF_TURN, 0)
    text = "Shall I compare thee to a summer's day?"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_folder_with_two_gguf_files_is_refused_by_name(tmp_path: Path) -> None:
    from tasks.prepare.body import main

    bench = Workbench(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.gguf").write_bytes(b"")
    (folder / "b.gguf").write_bytes(b"")
    model = {"kind": "gguf", "file": bench.ref(folder)}
    with pytest.raises(ValueError, match=r"found 2: a\.gguf, b\.gguf"):
        bench.run(main, PrepareSpec.model_validate({"model": model}))
