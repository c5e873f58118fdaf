"""Whatever happens to stored bytes is noticed, said by name, and healed by keeping them again."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.errors import Corrupted
from tasks.store.base import Record
from tasks.store.local import LocalStore

NUM_CORRUPTIONS = 1_050


@dataclass
class Shelf:
    """A store with three artifacts and two records, and everything to make it whole again."""

    store: LocalStore
    home: Path
    sources: dict[str, Path]
    refs: dict[str, ArtifactRef]
    records: dict[Path, Record]

    def heal(self) -> None:
        for name, ref in self.refs.items():
            assert self.store.put(self.sources[name], ref.kind, ref.name) == ref
        for record in self.records.values():
            assert self.store.commit(record) == record

    def owners(self, path: Path) -> set[str]:
        """The names that a reader has to be told when this file is damaged."""
        if path in self.records:
            return {f"{self.records[path].step}/{self.records[path].identity}"}
        names = set()
        for name, ref in self.refs.items():
            digests = {ref.digest}
            if ref.is_folder:
                digests |= {entry.sha256 for entry in self.store.manifest(ref).files}
            if path.name in digests:
                names.add(name)
        return names

    def complaints(self) -> set[str]:
        """Who is reported when everything is read; anything but Corrupted is a failure."""
        named = set()
        for name, ref in self.refs.items():
            for read in (self.store.verify, self.store.materialize):
                try:
                    read(ref)
                except Corrupted as error:
                    named.add(name if f"'{name}'" in error.what else f"unnamed: {error}")
        for record in self.records.values():
            try:
                found = self.store.read_record(record.step, record.identity)
                assert found in (None, record), "a wrong record was served"
            except Corrupted as error:
                named.add(error.what.removeprefix("record "))
        return named


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands; no power is cut here
    rng = random.Random(5)
    model = tmp_path / "model"
    (model / "nested").mkdir(parents=True)
    (model / "config.json").write_text('{"hidden_size": 8}')
    (model / "weights.safetensors").write_bytes(rng.randbytes(70_000))
    (model / "nested" / "tokenizer.json").write_bytes(rng.randbytes(900))
    script = tmp_path / "tools"
    script.mkdir()
    (script / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (script / "run.sh").chmod(0o755)
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"task": "a", "numerator": 1}\n' * 50)
    sources = {"model": model, "tools": script, "samples.jsonl": samples}
    store = LocalStore(tmp_path / "home")
    refs = {
        "model": store.put(model, ArtifactKind.MODEL, "model"),
        "tools": store.put(script, ArtifactKind.FOLDER, "tools"),
        "samples.jsonl": store.put(samples, ArtifactKind.SAMPLES, "samples.jsonl"),
    }
    records = {}
    for digit in "ab":
        record = Record(
            step="train",
            identity=digit * 64,
            spec={"lr": 0.1, "seed": int(digit, 16)},
            result={"loss": 1.25, "steps": [1, 2, 3]},
            artifacts=tuple(refs.values()),
            provenance={"host": "here", "note": "æ — ∑"},
        )
        store.commit(record)
        records[tmp_path / "home" / "records" / "train" / f"{record.identity}.json"] = record
    return Shelf(store, tmp_path / "home", sources, refs, records)


def flip_one_bit(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    position = rng.randrange(8 * len(data))
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)


def truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def append(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.choice([b"\n", b" ", b"\0", b"x"]))


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def put_a_folder_there(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def put_a_link_there(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    *(flip_one_bit,) * 6,
    truncate,
    empty,
    append,
    delete,
    put_a_folder_there,
    put_a_link_there,
)


def test_every_random_corruption_is_reported_by_name_and_healed(shelf: Shelf) -> None:
    rng = random.Random(20261121)
    objects = [path for path in shelf.home.glob("objects/*/*") if path.is_file()]
    targets = sorted(objects) + sorted(shelf.records) * 2
    owners = {path: shelf.owners(path) for path in targets}
    assert all(owners.values())
    assert shelf.complaints() == set()
    seen: Counter[str] = Counter()
    for number in range(NUM_CORRUPTIONS):
        damage = rng.choice(DAMAGES)
        path = rng.choice(targets)
        damaged = {path}
        path.chmod(0o644)
        if damage is truncate and rng.random() < 0.4:
            other = rng.choice([target for target in targets if target != path])
            swap(path, other)
            damaged.add(other)
            seen["swap"] += 1
        else:
            damage(path, rng)
            seen[damage.__name__] += 1
        expected = {name for target in damaged for name in owners[target]}
        if damage is delete and damaged <= set(shelf.records):
            expected = set()  # a record that is gone is one that was never written
        complaints = shelf.complaints()
        assert complaints == expected, f"corruption {number}: {damage.__name__} of {path}"
        shelf.heal()
        assert shelf.complaints() == set(), f"not healed after corruption {number}"
    print(f"{NUM_CORRUPTIONS} corruptions, all reported and healed: {dict(seen)}")
    assert sum(seen.values()) >= 1000


def swap(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def test_view_that_was_tampered_with_is_made_anew(shelf: Shelf) -> None:
    ref = shelf.refs["model"]
    view = shelf.store.materialize(ref)
    original = (view / "config.json").read_bytes()

    def overwrite() -> None:
        (view / "config.json").unlink()
        (view / "config.json").write_text("{}")

    def add() -> None:
        (view / "nested" / "extra.py").write_text("import os")

    def take_away() -> None:
        (view / "nested" / "tokenizer.json").unlink()

    def lead_elsewhere() -> None:
        shutil.move(view / "nested", shelf.home / "moved")
        (view / "nested").symlink_to(shelf.home / "moved")

    def replace_all() -> None:
        shutil.rmtree(view)
        view.write_text("no folder")

    for tamper in (overwrite, add, take_away, lead_elsewhere, replace_all):
        tamper()
        assert shelf.store.materialize(ref) == view
        names = {str(path.relative_to(view)) for path in view.rglob("*") if path.is_file()}
        assert names == {"config.json", "weights.safetensors", "nested/tokenizer.json"}
        assert (view / "config.json").read_bytes() == original
        assert not (view / "nested").is_symlink()


def test_executable_file_in_a_view_is_checked_like_an_object(shelf: Shelf) -> None:
    script = shelf.store.materialize(shelf.refs["tools"]) / "run.sh"
    assert script.stat().st_mode & 0o777 == 0o555
    script.chmod(0o755)
    script.write_text("#!/bin/sh\necho other\n")
    assert "hello" in (shelf.store.materialize(shelf.refs["tools"]) / "run.sh").read_text()


def test_unchanged_file_is_hashed_once_a_process(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    import tasks.digests as digests

    real = digests.hashlib.file_digest

    def counting(file: object, name: str) -> object:
        hashed.append(file)
        return real(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(digests.hashlib, "file_digest", counting)
    for _ in range(3):
        for ref in shelf.refs.values():
            shelf.store.verify(ref)
    assert hashed == [], "what was put was hashed while it was put"
    weights = max(shelf.home.glob("objects/*/*"), key=lambda path: path.stat().st_size)
    weights.touch()
    shelf.store.verify(shelf.refs["model"])
    assert len(hashed) == 1
