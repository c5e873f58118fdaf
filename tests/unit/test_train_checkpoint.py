"""A checkpoint is whole or it is passed over, in words."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch

from tasks.train.checkpoint import STATE_FILE, TENSORS_FILE, Checkpoint, load_newest, save


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((50,), float(step))}, {"curve": [0.1 * step]})


def silent(words: str) -> None:
    raise AssertionError(f"nothing was damaged: {words}")


def test_the_newest_comes_back_as_it_was_and_two_are_kept(tmp_path: Path) -> None:
    assert load_newest(tmp_path, silent) is None
    for step in (100, 200, 1000):
        save(tmp_path, checkpoint(step))
    found = load_newest(tmp_path, silent)
    assert found is not None
    assert (found.step, found.state) == (1000, {"curve": [100.0]})
    assert torch.equal(found.tensors["w"], torch.full((50,), 1000.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000200", "step-00001000"]


@pytest.mark.parametrize("name", [STATE_FILE, TENSORS_FILE])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    tmp_path: Path, name: str, damage: str
) -> None:
    rng = random.Random(f"{name} {damage}")
    save(tmp_path, checkpoint(1))
    save(tmp_path, checkpoint(2))
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "step-00000002", kept)
    for _ in range(20):
        target = tmp_path / "step-00000002"
        shutil.rmtree(target)
        shutil.copytree(kept, target)
        content = bytearray((target / name).read_bytes())
        if damage == "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif damage == "truncate":
            del content[rng.randrange(1, len(content)) :]
        elif damage == "empty":
            content.clear()
        (target / name).write_bytes(content)
        if damage == "remove":
            (target / name).unlink()
        said: list[str] = []
        found = load_newest(tmp_path, said.append)
        assert found is not None
        assert found.step == 1
        assert len(said) == 1
        assert "step-00000002 is damaged" in said[0]


def test_what_a_kill_left_unfinished_is_neither_read_nor_in_the_way(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(1))
    unfinished = tmp_path / "unfinished-123"
    unfinished.mkdir()
    (unfinished / TENSORS_FILE).write_bytes(b"half")
    found = load_newest(tmp_path, silent)
    assert found is not None
    assert found.step == 1


def test_saving_over_a_damaged_checkpoint_of_the_same_step_repairs_it(tmp_path: Path) -> None:
    save(tmp_path, checkpoint(5))
    (tmp_path / "step-00000005" / TENSORS_FILE).write_bytes(b"")
    save(tmp_path, checkpoint(5))
    assert load_newest(tmp_path, silent) is not None
