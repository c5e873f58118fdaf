"""From documents to fixed-length token sequences.

The stream is EOS, document, EOS, document, …, EOS: every document is read after the same token that
lm-eval puts before a text. It is cut into whole sequences; what does not fill one is left out.

    pack([[5, 6, 7], [8]], eos=0, sequence_length=3)    # [[0, 5, 6], [7, 0, 8]]
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tasks.artifacts import TOKENS_FILE
from tasks.prepare.text_spec import Calibration


def pack(documents: Iterable[Sequence[int]], eos: int, sequence_length: int) -> NDArray[np.int32]:
    """int32 [num_sequences, sequence_length]; num_sequences may be 0."""
    pieces = [np.array([eos], dtype=np.int32)]
    for tokens in documents:
        pieces.append(np.asarray(tokens, dtype=np.int32))
        pieces.append(pieces[0])
    stream = np.concatenate(pieces)
    num_sequences = len(stream) // sequence_length
    return stream[: num_sequences * sequence_length].reshape(num_sequences, sequence_length)


def calibration_sequences(
    documents: Sequence[Sequence[int]], eos: int, rule: Calibration
) -> NDArray[np.int32]:
    """Packed sequences of seeded, randomly ordered documents, as many as the rule asks for."""
    order = list(range(len(documents)))
    random.Random(rule.seed).shuffle(order)  # noqa: S311 (a choice of samples, not a secret)
    needed = rule.num_samples * rule.sequence_length
    chosen: list[Sequence[int]] = []
    num_tokens = 1
    for index in order:
        if num_tokens >= needed:
            break
        chosen.append(documents[index])
        num_tokens += len(documents[index]) + 1
    sequences = pack(chosen, eos, rule.sequence_length)
    if len(sequences) < rule.num_samples:
        raise ValueError(
            f"calibration asks for {rule.num_samples} sequences of {rule.sequence_length} tokens; "
            f"the training split holds only {len(sequences)}: lower calibration.num_samples or "
            "calibration.sequence_length, or give more text"
        )
    return sequences[: rule.num_samples]


def write_tokens(folder: Path, sequences: NDArray[Any]) -> Path:
    """A TOKENS artifact: `tokens.safetensors` with int32 `input_ids`."""
    folder.mkdir(parents=True)
    save_file({"input_ids": np.ascontiguousarray(sequences)}, folder / TOKENS_FILE)
    return folder
