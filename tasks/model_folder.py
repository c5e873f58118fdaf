"""A Hugging Face model folder: which of its files matter, and a check that needs no torch.

A folder is accepted when its config is JSON that names an architecture and asks for no code of its
own, and its weights are safetensors whose headers agree with the file sizes, under the name that
libraries load: what is checked is what is used. Pickled weights and Python files are never copied,
loaded or run.

    header = check_model_folder(Path("model"))
    header["model.norm.weight"].dtype, header["model.norm.weight"].shape    # "BF16", (128,)
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "*.safetensors",
)
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as a safetensors header describes it."""

    dtype: str  # as the format spells it: F32, BF16, I32, …
    shape: tuple[int, ...]
    size_bytes: int


def copy_files(source: Path, target: Path, patterns: tuple[str, ...]) -> list[str]:
    """Copy the files that match into an existing or new folder; returns their names, sorted."""
    target.mkdir(parents=True, exist_ok=True)
    names = sorted({path.name for pattern in patterns for path in source.glob(pattern)})
    for name in names:
        shutil.copyfile(source / name, target / name)
    return names


def safetensors_header(path: Path) -> dict[str, TensorHeader]:
    """Names, dtypes and shapes in one file; ValueError where the file is not what it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER_BYTES + 1
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ValueError(f"{path.name} is cut short or is not a safetensors file")
        try:
            document: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"{path.name} has a broken safetensors header: {error}") from error
    try:
        document.pop("__metadata__", None)
        return _tensors(document, size - 8 - length)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: its header is not that of safetensors") from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _tensors(document: dict[str, Any], num_bytes: int) -> dict[str, TensorHeader]:
    """The tensors of a header; ValueError unless they fill the bytes after it without a gap."""
    tensors = {}
    end_of_data = 0
    for name, entry in sorted(document.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        bits = DTYPE_BITS.get(entry["dtype"])
        if bits is None:
            raise ValueError(f"tensor '{name}' has the unknown type {entry['dtype']}")
        if start != end_of_data or end - start != math.prod(entry["shape"]) * bits // 8:
            raise ValueError(f"tensor '{name}' has the wrong size")
        end_of_data = end
        tensors[name] = TensorHeader(entry["dtype"], tuple(entry["shape"]), end - start)
    if end_of_data != num_bytes:
        raise ValueError(
            f"it holds {num_bytes} bytes of tensors, its header promises {end_of_data}"
        )
    return tensors


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; ValueError where it is missing or asks for remote code."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder.name} is not a model folder: it has no config.json")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name in ("config.json", "tokenizer_config.json"):
        settings = folder / name
        if settings.is_file() and "auto_map" in json.loads(settings.read_text(encoding="utf-8")):
            raise ValueError(
                f"{name} has 'auto_map': it wants to run Python code that comes with the model, "
                "which labwright never does; use a model that its libraries know"
            )
    return config


def check_model_folder(folder: Path) -> dict[str, TensorHeader]:
    """Every tensor of the folder by name; ValueError says what keeps it from being loaded."""
    config = read_config(folder)
    if not config.get("architectures"):
        raise ValueError("config.json names no architecture ('architectures' is empty)")
    wanted = _index(folder)
    tensors: dict[str, TensorHeader] = {}
    for path in weight_files(folder):
        tensors.update(safetensors_header(path))
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} tensors that {INDEX} names "
            f"are in no file, the first is {missing[0]}"
        )
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers and vLLM load; ValueError where they would not load the same."""
    there = {path.name for path in folder.glob("*.safetensors")}
    named = set(_index(folder).values()) or {WEIGHTS}
    if not there:
        pickles = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")])
        hint = (
            f"; it has {', '.join(pickles)}, pickled weights, which can run code when read: "
            "convert them to safetensors first"
            if pickles
            else ""
        )
        raise ValueError(f"{folder.name} has no *.safetensors weights{hint}")
    if absent := sorted(named - there):
        raise ValueError(
            f"{folder.name} has no {', '.join(absent)}, only {', '.join(sorted(there))}: libraries "
            f"load {WEIGHTS}, or the files that {INDEX} names"
        )
    # Beside an index other files are left alone, but transformers prefers this one to any index.
    besides = there - named if named == {WEIGHTS} else (there - named) & {WEIGHTS}
    if besides:
        raise ValueError(
            f"{folder.name} has {', '.join(sorted(besides))} beside {', '.join(sorted(named))}: "
            "which are the weights is not clear; keep one kind"
        )
    return [folder / name for name in sorted(named)]


def _index(folder: Path) -> dict[str, str]:
    """Tensor to file, as the index of split weights says; empty where there is none."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    wanted: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    if strange := sorted(name for name in set(wanted.values()) if Path(name).name != name):
        raise ValueError(f"{INDEX} names {strange[0]}, which is not beside it")
    return wanted


def num_parameters(tensors: dict[str, TensorHeader]) -> int:
    """Elements of all tensors (a tied weight is stored, and counted, once)."""
    return sum(math.prod(tensor.shape) for tensor in tensors.values())
