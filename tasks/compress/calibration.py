"""Calibration sequences and the sample on which a model is looked at before and after.

sequences = load_sequences(folder, num_samples=128, sequence_length=256, seed=0)
before = look(model, sequences[:SAMPLE_SEQUENCES])      # loss and predictions
loader = calibration_loader(sequences)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tasks.artifacts import TOKENS_FILE

SAMPLE_SEQUENCES = 8  # enough to see a broken model, cheap beside a calibration
BATCH_TOKENS = 4096  # of one forward pass; long sequences go one by one


@dataclass(frozen=True)
class Look:
    """What a model says about a sample."""

    loss: float  # nats per token
    predictions: torch.Tensor  # int64 [num_sequences, sequence_length], most likely next token


def load_sequences(
    folder: Path, num_samples: int | None, sequence_length: int | None, seed: int
) -> torch.Tensor:
    """int64 [num_samples, sequence_length]: sequences drawn without replacement, by seed."""
    ids: torch.Tensor = load_file(folder / TOKENS_FILE)["input_ids"].long()
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    return ids[order[:num_samples], :sequence_length].contiguous()


def calibration_loader(sequences: torch.Tensor) -> DataLoader[dict[str, torch.Tensor]]:
    """Sequences in order, several a batch; llmcompressor takes a loader as it is."""
    batches = [
        {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
        for rows in torch.split(sequences, max(1, BATCH_TOKENS // sequences.shape[1]))
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


@torch.inference_mode()
def look(model: torch.nn.Module, sequences: torch.Tensor) -> Look:
    """Loss and predictions on `sequences` [num_sequences, sequence_length]; refuses NaN.

    RuntimeError where a logit is not finite.
    """
    losses, predictions = [], []
    device = next(model.parameters()).device
    for row in sequences:
        ids = row[None, :].to(device)
        logits = model(input_ids=ids).logits.float()
        if not bool(torch.isfinite(logits).all()):
            raise RuntimeError("the model's logits are not finite on the calibration sample")
        losses.append(torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))
        predictions.append(logits[0].argmax(-1).cpu())
    return Look(float(torch.stack(losses).mean()), torch.stack(predictions))
