"""The model folder: new weights, a copy of a folder, one commit of the hub, or a GGUF file.

Whatever the source, the folder that comes out has config.json, safetensors weights and
generation_config.json, and nothing in it is a program: pickles and Python files are not copied.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tasks.model_folder import (
    MODEL_FILES,
    TOKENIZER_FILES,
    check_model_folder,
    copy_files,
    read_config,
)
from tasks.prepare.model_spec import ModelFromConfig, ModelFromGguf, ModelFromHub


def create(rule: ModelFromConfig, tokenizer: Any, folder: Path) -> None:
    """A Llama with float32 weights drawn from `rule.seed`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = LlamaConfig(
        vocab_size=rule.vocab_size or len(tokenizer),
        hidden_size=rule.hidden_size,
        intermediate_size=rule.intermediate_size,
        num_hidden_layers=rule.num_layers,
        num_attention_heads=rule.num_heads,
        num_key_value_heads=rule.num_key_value_heads or rule.num_heads,
        max_position_embeddings=rule.max_position_embeddings,
        tie_word_embeddings=rule.tie_embeddings,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(rule.seed)
    LlamaForCausalLM(config).save_pretrained(folder)


def copy(source: Path, folder: Path) -> None:
    """The files of a model folder that are data; refuses one that wants to run its own code."""
    check_model_folder(source)
    copy_files(source, folder, (*MODEL_FILES, *TOKENIZER_FILES))


def download(rule: ModelFromHub, folder: Path) -> None:
    """The data files of one commit, fetched from the hub that HF_ENDPOINT names."""
    import httpx
    from huggingface_hub import snapshot_download

    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    cache = folder.with_name(folder.name + "-download")
    try:
        snapshot_download(
            rule.id,
            revision=rule.revision,
            allow_patterns=[*MODEL_FILES, *TOKENIZER_FILES],
            local_dir=cache,
            endpoint=hub,
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise ValueError(
            f"cannot fetch {rule.id} at {rule.revision} from {hub}: {error}\n"
            "Without a network, give a folder instead: model: {kind: folder, path: …}"
        ) from error
    copy(cache, folder)
    shutil.rmtree(cache)


def convert_gguf(rule: ModelFromGguf, source: Path, folder: Path) -> None:
    """Dequantize a GGUF file's weights and take its tokenizer along."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    files = [source] if source.is_file() else sorted(source.rglob("*.gguf"))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise ValueError(f"model.file must be one GGUF file; found {len(files)}: {names}")
    place = {"pretrained_model_name_or_path": files[0].parent, "gguf_file": files[0].name}
    tokenizer = AutoTokenizer.from_pretrained(**place, trust_remote_code=False)
    for role, index in special_tokens(files[0]).items():
        setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(index))
    tokenizer.clean_up_tokenization_spaces = False
    loaded = AutoModelForCausalLM.from_pretrained(
        **place, dtype=torch.float32, trust_remote_code=False
    )
    # The loaded model remembers that it was quantized and saves itself so; its weights are not any
    # more, and a plain model of the same architecture takes them.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    settings.pop("_name_or_path", None)
    plain = type(loaded)(type(loaded.config)(**settings))
    plain.load_state_dict(loaded.state_dict())
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    plain.to(getattr(torch, rule.dtype.value)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def special_tokens(file: Path) -> dict[str, int]:
    """Ids of the bos, eos and pad tokens as the GGUF file states them.

    transformers 5.17 takes the beginning of a text for its end when it reads a chat model.
    """
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    keys = {role: f"tokenizer.ggml.{name}_token_id" for role, name in names.items()}
    return {role: int(fields[key].contents()) for role, key in keys.items() if key in fields}


def add_generation_config(folder: Path, tokenizer: Any) -> None:
    """Write generation_config.json where the source had none: when to stop, and nothing else."""
    path = folder / "generation_config.json"
    if not path.exists():
        settings = {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        present = {key: value for key, value in settings.items() if value is not None}
        path.write_text(json.dumps(present, indent=2) + "\n", encoding="utf-8")


def check_vocabulary(folder: Path, num_entries: int) -> None:
    """ValueError where the tokenizer can write tokens that the model has no row for."""
    vocab_size = read_config(folder).get("vocab_size")
    if isinstance(vocab_size, int) and vocab_size < num_entries:
        raise ValueError(
            f"the tokenizer has {num_entries} entries and the model only {vocab_size} rows: they "
            "do not belong together"
        )
