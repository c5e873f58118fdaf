"""The tokenizer: learnt from training text, or read from a folder.

A learnt one is a byte-level BPE: any text has tokens, and decoding gives the same bytes back. Its
special tokens are the end of text (also beginning and padding) and the two marks of a ChatML turn.

    tokenizer = learn(texts, vocab_size=2048, max_length=1024)
    tokenizer.save_pretrained("tokenizer")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.prepare.documents import Document, Turn

END_OF_TEXT = "<|endoftext|>"
TURN_MARKS = ("<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def learn(texts: Iterable[str], vocab_size: int, max_length: int | None) -> Any:
    """A new byte-level BPE of at most `vocab_size` entries (fewer where the text is too small)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, *TURN_MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(TURN_MARKS),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        **({} if max_length is None else {"model_max_length": max_length}),
    )


def read(folder: Path) -> Any:
    """The fast tokenizer of a folder; ValueError where there is none, or it has no EOS."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ValueError(f"{folder.name} has no tokenizer (no tokenizer.json, no tokenizer.model)")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer in {folder.name} has no end-of-text token; documents cannot be told "
            "apart: set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def in_chat_template(tokenizer: Any, documents: Iterable[Document]) -> list[str]:
    """Each document as a conversation: its messages, or all of it as a user's only one."""
    if not tokenizer.chat_template:
        raise ValueError(
            "calibration.template is chat, but the tokenizer has no chat template: use text"
        )
    return [
        tokenizer.apply_chat_template(
            [turn._asdict() for turn in document.turns or (Turn("user", document.text),)],
            tokenize=False,
        )
        for document in documents
    ]
