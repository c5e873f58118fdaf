"""What a step sees follows from its number alone, so a resumed run needs no other memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.spec import DeviceKind
from tasks.train.schedule import learning_rate, sequence_indices
from tasks.train.spec import Precision, TrainSpec

REF = ArtifactRef(kind=ArtifactKind.MODEL, digest="0" * 64, size_bytes=1, name="any")


def train_spec(**fields: Any) -> TrainSpec:
    base = {"model": REF, "train_tokens": REF, "num_steps": 100, "batch_size": 4}
    return TrainSpec.model_validate({**base, "learning_rate": 1e-3, **fields})


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
def test_each_epoch_reads_every_sequence_once(
    num_sequences: int, num_per_step: int, seed: int
) -> None:
    num_steps = num_sequences  # num_per_step whole epochs
    read = [
        int(index)
        for step in range(num_steps)
        for index in sequence_indices(
            step, num_sequences=num_sequences, num_per_step=num_per_step, seed=seed
        )
    ]
    for epoch in range(num_per_step):
        part = read[epoch * num_sequences : (epoch + 1) * num_sequences]
        assert sorted(part) == list(range(num_sequences))


def test_epochs_and_seeds_differ_in_order() -> None:
    def order(step: int, seed: int) -> list[int]:
        return list(sequence_indices(step, num_sequences=50, num_per_step=50, seed=seed))

    assert order(0, seed=0) != order(1, seed=0)
    assert order(0, seed=0) != order(0, seed=1)


def test_a_far_step_needs_no_walk_through_the_earlier_ones() -> None:
    far = sequence_indices(10**12, num_sequences=1000, num_per_step=8, seed=0)
    assert list(far) == list(sequence_indices(10**12, num_sequences=1000, num_per_step=8, seed=0))


def test_the_order_of_a_seed_never_changes_between_versions() -> None:
    found = sequence_indices(0, num_sequences=10, num_per_step=10, seed=7)
    assert list(found) == [8, 0, 7, 1, 3, 6, 2, 4, 5, 9]


def test_the_learning_rate_rises_to_its_highest_and_falls_to_its_lowest() -> None:
    spec = train_spec(warmup_steps=10, min_learning_rate_fraction=0.1)
    rates = [learning_rate(step, spec) for step in range(spec.num_steps)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == 1e-3
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_a_warmup_that_never_ends_is_refused_by_value() -> None:
    with pytest.raises(ValidationError, match="warmup_steps 100 must be less than num_steps 100"):
        train_spec(warmup_steps=100)


def test_the_precision_follows_the_kind_of_device_unless_it_is_stated() -> None:
    assert train_spec(device_kind=DeviceKind.CUDA).precision is Precision.BFLOAT16
    assert train_spec(device_kind=DeviceKind.CPU).precision is Precision.FLOAT32
    stated = train_spec(device_kind=DeviceKind.CPU, precision=Precision.BFLOAT16)
    assert stated.precision is Precision.BFLOAT16
