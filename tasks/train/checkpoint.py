"""Checkpoints that survive a kill at any moment, and that say so when they did not.

    checkpoints/step-00000200/tensors.safetensors    weights, optimizer moments, random states
                              state.json             everything else, with the sha256 of both

A checkpoint appears whole, by one rename after everything in it is on the disk. The two newest are
kept: one whose bytes do not match their sums is passed over, in words, for the one before. Nothing
is pickled.

    save(folder, Checkpoint(step=200, tensors={...}, state={...}))
    checkpoint = load_newest(folder, say=print)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tasks.artifacts import file_digest
from tasks.store.files import sync_file, sync_folder, write_new

NUM_KEPT = 2
TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a training run after `step` steps."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]  # JSON values only


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint durably, then drop those that are older than the two newest."""
    temporary = folder / f"unfinished-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(tensors, temporary / TENSORS_FILE)
    body = {
        "step": checkpoint.step,
        "tensors_sha256": file_digest(temporary / TENSORS_FILE),
        "state": dict(checkpoint.state),
    }
    document = {"sha256": _sum(body), **body}
    sync_file(temporary / TENSORS_FILE)
    write_new(temporary / STATE_FILE, json.dumps(document, allow_nan=False).encode(), 0o644)
    sync_folder(temporary)
    target = folder / f"step-{checkpoint.step:08d}"
    shutil.rmtree(target, ignore_errors=True)  # a broken one of the same step
    temporary.rename(target)
    sync_folder(folder)
    for old in _newest_first(folder)[NUM_KEPT:]:
        shutil.rmtree(old)


def load_newest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint; tells of every broken one that it passes over."""
    for path in _newest_first(folder):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"checkpoint {path.name} is damaged and not used: {error}")
    return None


def _load(path: Path) -> Checkpoint:
    document = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{STATE_FILE} is not a JSON object")
    if document.pop("sha256") != _sum(document):
        raise ValueError(f"{STATE_FILE} does not match its checksum")
    if file_digest(path / TENSORS_FILE) != document["tensors_sha256"]:
        raise ValueError(f"{TENSORS_FILE} does not match its checksum")
    return Checkpoint(document["step"], load_file(path / TENSORS_FILE), document["state"])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _sum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
