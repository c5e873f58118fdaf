"""What a step sees: which sequences, at which learning rate. Pure functions of the step's number.

A resumed run needs no state to go on where it stopped: step 7,000,000 is as near as step 0.

    learning_rate(step, spec)
    sequence_indices(step, num_sequences=6500, num_per_step=16, seed=0)
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from tasks.train.spec import TrainSpec


def learning_rate(step: int, spec: TrainSpec) -> float:
    """Linear warm-up, then half a cosine down to the last step (steps count from 0).

    The highest rate is reached in the last step of warm-up, the lowest in the last step of all.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    lowest = spec.learning_rate * spec.min_learning_rate_fraction
    last = spec.num_steps - 1
    progress = (step - spec.warmup_steps) / max(1, last - spec.warmup_steps)
    return lowest + (spec.learning_rate - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


@functools.lru_cache(maxsize=2)
def _epoch_order(epoch: int, num_sequences: int, seed: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_sequences)


def sequence_indices(
    step: int, *, num_sequences: int, num_per_step: int, seed: int
) -> NDArray[np.int64]:
    """int64 [num_per_step]: a new seeded order in each epoch; a step may span two epochs."""
    positions = np.arange(step * num_per_step, (step + 1) * num_per_step, dtype=np.int64)
    return np.array(
        [
            _epoch_order(int(position) // num_sequences, num_sequences, seed)[
                int(position) % num_sequences
            ]
            for position in positions
        ],
        dtype=np.int64,
    )
