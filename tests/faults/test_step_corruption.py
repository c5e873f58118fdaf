"""What was damaged on the disk is reported by name and computed again; it is never served."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import Corrupted
from tasks.observer import observing
from tasks.store import open_store
from tests.fakes.steps import ToySpec, Witness, placed, starts, toy
from tests.fakes.toy_spec import ToyResult

SPEC = ToySpec(seed=3)
NUM_CORRUPTIONS = 20


def flip_a_bit(path: Path, luck: random.Random, others: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    data[luck.randrange(len(data))] ^= 1 << luck.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, luck: random.Random, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes()[: luck.randrange(1, path.stat().st_size)])


def empty(path: Path, luck: random.Random, others: list[Path]) -> None:
    path.write_bytes(b"")


def remove(path: Path, luck: random.Random, others: list[Path]) -> None:
    path.unlink()


def append(path: Path, luck: random.Random, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def swap(path: Path, luck: random.Random, others: list[Path]) -> None:
    other = luck.choice([other for other in others if other.read_bytes() != path.read_bytes()])
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def replace_by_folder(path: Path, luck: random.Random, others: list[Path]) -> None:
    path.unlink()
    path.mkdir()


Corrupt = Callable[[Path, random.Random, list[Path]], None]
WAYS: list[Corrupt] = [flip_a_bit, truncate, empty, remove, append, swap, replace_by_folder]


def files_of(home: Path) -> dict[str, list[Path]]:
    """Everything that the store keeps for the two steps, by what it is."""
    return {
        "objects": sorted(path for path in (home / "objects").glob("*/*") if path.is_file()),
        "records": sorted((home / "records" / "toy").glob("*.json")),
    }


async def both(folder: Path) -> tuple[ToyResult, ToyResult]:
    """A step, and one that reads what it made."""
    first = (await toy.compute(SPEC, placed(folder))).result
    second = (await toy.compute(ToySpec(seed=4, source=first.folder), placed(folder))).result
    return first, second


@pytest.mark.parametrize("number", range(NUM_CORRUPTIONS))
async def test_random_damage_is_named_and_computed_again(
    pristine: tuple[Path, tuple[ToyResult, ToyResult]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    original, expected = pristine
    home = tmp_path / "home"
    shutil.copytree(original, home, symlinks=True)
    monkeypatch.setenv("LABWRIGHT_HOME", str(home))
    luck = random.Random(number)
    files = files_of(home)
    victims = files["records"] if number % 4 == 0 else files["objects"]
    victim = luck.choice(victims)
    for path in victims:
        path.chmod(0o644)
    before = {path: path.read_bytes() for path in victims}
    WAYS[number % len(WAYS)](victim, luck, [path for path in victims if path != victim])
    damaged = [path for path in victims if not path.is_file() or path.read_bytes() != before[path]]
    witness = Witness()
    with observing(witness):
        assert await both(tmp_path) == expected
    is_lost = victim in files["records"] and WAYS[number % len(WAYS)] is remove
    assert starts(tmp_path) >= 1, "what was damaged was served"
    if not is_lost:  # a record that is gone is not damaged
        assert witness.warnings
        assert all("computing it again" in warning for warning in witness.warnings)
        told = " ".join(witness.warnings)
        assert any(path.name.removesuffix(".json") in told for path in damaged)
    num_starts = starts(tmp_path)
    assert await both(tmp_path) == expected
    assert starts(tmp_path) == num_starts, "the second time everything is whole again"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[ToyResult, ToyResult]]:
    """A home with both steps computed; copied for each corruption."""
    folder = tmp_path_factory.mktemp("pristine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABWRIGHT_HOME", str(folder / "home"))
        return folder / "home", asyncio.run(both(folder))


async def test_a_view_that_was_tampered_with_is_laid_out_anew(home: Path) -> None:
    first, second = await both(home)
    view = open_store().materialize(first.folder)
    (view / "one").unlink()
    (view / "one").write_text("somebody wrote into a view")
    (view / "three").write_text("and added a file")
    third = (await toy.compute(ToySpec(seed=5, source=first.folder), placed(home))).result
    assert third.read == second.read
    assert sorted(path.name for path in view.iterdir()) == ["one", "two"]
    assert (view / "one").read_bytes() != b"somebody wrote into a view"


async def test_a_damaged_record_is_never_served_by_lookup(home: Path) -> None:
    await toy.compute(SPEC, placed(home))
    record = next((home / "records" / "toy").glob("*.json"))
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b'"number":', b'"number":1'))
    with pytest.raises(Corrupted, match=r"record toy/.* does not match its checksum"):
        toy.lookup(SPEC)
    witness = Witness()
    with observing(witness):
        assert not (await toy.compute(SPEC, placed(home))).is_cached
    assert len(list((home / "records" / "toy").glob("*.corrupt-1"))) == 1, "kept for a look"
