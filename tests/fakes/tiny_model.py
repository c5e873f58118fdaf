"""A tiny Llama with a trained byte-level tokenizer and a chat template, made in a few seconds.

Two layers of width 128 (head size 32, which vLLM's CPU kernels take; group size 128 divides every
input width), random weights from a fixed seed, bf16. Good for anything that asks whether a model
goes through a step, never for what the model says.

    build_tiny_model(tmp_path / "model")
    write_tokens(tmp_path / "tokens", num_sequences=8, sequence_length=64)

The fixtures `tiny_model` and `tiny_tokens` are those two, once a session.
"""

from __future__ import annotations

from pathlib import Path

import pytest

VOCABULARY_SIZE = 384
MAX_POSITIONS = 512
WIDTH = 128

# Sonnet 18, public domain.
CORPUS = """\
Shall I compare thee to a summer's day? Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May, And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines, And often is his gold complexion dimm'd;
And every fair from fair sometime declines, By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade, Nor lose possession of that fair thou ow'st;
Nor shall death brag thou wander'st in his shade, When in eternal lines to time thou grow'st:
So long as men can breathe or eyes can see, So long lives this, and this gives life to thee.
"""
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_model(
    folder: Path, *, width: int = WIDTH, num_layers: int = 2, tied: bool = False, seed: int = 0
) -> Path:
    """Write the model and its tokenizer to `folder`; equal arguments give equal bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    end, *others = SPECIAL_TOKENS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        additional_special_tokens=others,
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
    ).save_pretrained(folder)

    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=width // 32,
        num_key_value_heads=max(1, width // 64),
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def write_tokens(
    folder: Path, *, num_sequences: int = 16, sequence_length: int = 64, seed: int = 0
) -> Path:
    """A TOKENS artifact: int32 `input_ids` [num_sequences, sequence_length], uniform at random."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(seed).integers(
        len(SPECIAL_TOKENS), VOCABULARY_SIZE, (num_sequences, sequence_length), dtype=np.int32
    )
    save_file({"input_ids": ids}, folder / "tokens.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tiny") / "tokens")
