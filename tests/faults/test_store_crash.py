"""A process that dies in the middle of keeping a result leaves the old state or the new one."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.artifacts import ArtifactKind
from tasks.errors import Corrupted
from tasks.store.base import Record
from tasks.store.journal import Journal, read_journal
from tasks.store.local import LocalStore
from tests.fakes.crash_shim import CrashShim, in_fork

IDENTITY = "5" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where possible: hundreds of fsyncs, and no power is cut here."""
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="labwright-test-") as name:
        yield Path(name)


def write_outputs(folder: Path) -> None:
    """What a body leaves; the same each time."""
    (folder / "model" / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "sub" / "weights").write_bytes(bytes(range(256)) * 64)
    (folder / "report.html").write_text("<p>done</p>")


def keep_result(home: Path, outputs: Path) -> Record:
    """The store's part of a step: set a damaged record aside, put, commit."""
    store = LocalStore(home)
    try:
        store.read_record("train", IDENTITY)
    except Corrupted:
        store.set_aside("train", IDENTITY)
    write_outputs(outputs)
    model = store.put(outputs / "model", ArtifactKind.MODEL, "model", move=True)
    report = store.put(outputs / "report.html", ArtifactKind.REPORT, "report.html")
    return store.commit(
        Record(
            step="train",
            identity=IDENTITY,
            spec={"seed": 1},
            result={"model": model.model_dump(mode="json")},
            artifacts=(model, report),
        )
    )


def look_and_complete(home: Path, outputs: Path, may_be_damaged: bool) -> None:
    """A fresh process finds no record or an intact one, and finishes the work."""
    store = LocalStore(home)
    try:
        record = store.read_record("train", IDENTITY)
        for ref in record.artifacts if record else ():
            store.verify(ref)
    except Corrupted:
        assert may_be_damaged
        record = None
    completed = keep_result(home, outputs)
    assert record in (None, completed)
    assert store.read_record("train", IDENTITY) == completed
    for ref in completed.artifacts:
        store.materialize(ref)
    own_scratch = list((home / "scratch").iterdir())
    assert len(own_scratch) == 1, "what a dead process left is cleared"
    assert [path.name for path in own_scratch[0].iterdir()] == ["lock"]


@pytest.mark.parametrize("is_damaged_before", [False, True])
def test_kill_at_every_operation_of_put_and_commit_leaves_old_or_new(
    folder: Path, is_damaged_before: bool
) -> None:
    num_kills = 0
    for kill_at in range(1, 1000):
        home = folder / str(kill_at)
        outputs = home / "out"
        outputs.mkdir(parents=True)
        if is_damaged_before:
            damage_everything(home, outputs)

        def keep_and_die(home: Path = home, outputs: Path = outputs, n: int = kill_at) -> None:
            CrashShim(home, kill_at=n).install()
            keep_result(home, outputs)

        code = in_fork(keep_and_die)
        assert in_fork(lambda: look_and_complete(home, outputs, is_damaged_before)) == 0, (  # noqa: B023
            f"killed at operation {kill_at}"
        )
        if code == 0:
            break
        assert code == -signal.SIGKILL
        num_kills += 1
    print(f"killed at each of {num_kills} operations")
    assert num_kills > 30


def damage_everything(home: Path, outputs: Path) -> None:
    """A store whose record and objects were all overwritten."""
    assert in_fork(lambda: keep_result(home, outputs)) == 0
    for path in [*(home / "objects").glob("*/*"), *(home / "records").glob("*/*")]:
        path.chmod(0o644)
        path.write_bytes(b"damaged")


def test_power_cut_finds_no_record_whose_objects_are_not_on_the_disk(folder: Path) -> None:
    """Replays the trace of a commit: what is named was synced, its name too, before the record."""
    home, outputs = folder, folder / "out"

    def keep_and_check() -> None:
        shim = CrashShim(home).install()
        keep_result(home, outputs)
        unsynced_files: set[str] = set()
        unsynced_folders: set[str] = set()
        num_published = 0
        for name, paths in shim.operations:
            if name in ("write", "open"):
                unsynced_files.add(paths[0])
            elif name == "fsync":
                unsynced_files.discard(paths[0])
                unsynced_folders.discard(paths[0])
            elif name in ("rename", "link"):
                source, target = paths
                if "/objects/" in target or "/records/" in target:
                    assert source not in unsynced_files, f"{target} was named before its fsync"
                if "/records/" in target:
                    assert not [path for path in unsynced_folders if "/objects/" in path]
                    num_published += 1
                unsynced_folders.add(os.path.dirname(target))
            elif name == "mkdir":
                unsynced_folders.add(os.path.dirname(paths[0]))
        assert num_published == 1
        assert not [path for path in unsynced_folders if "/records" in path]

    assert in_fork(keep_and_check) == 0


def test_journal_killed_at_every_operation_keeps_what_it_acknowledged(folder: Path) -> None:
    num_kills = 0
    for kill_at in range(1, 200):
        place = folder / str(kill_at)
        place.mkdir()
        path, acknowledged = place / "journals" / "journal.jsonl", place / "acknowledged"

        def append_and_die(path: Path = path, said: Path = acknowledged, n: int = kill_at) -> None:
            CrashShim(path.parent, kill_at=n).install()
            with Journal.open(path) as journal:
                for number in range(5):
                    journal.append({"number": number})
                    said.write_text(str(number + 1))

        code = in_fork(append_and_die)
        num_acknowledged = int(acknowledged.read_text()) if acknowledged.exists() else 0
        if path.parent.exists():
            with Journal.open(path) as journal:
                found = [entry["number"] for entry in journal.contents.entries]
                assert found == list(range(len(found)))
                assert len(found) >= num_acknowledged
                journal.append({"number": len(found)})
            assert len(read_journal(path).entries) == len(found) + 1
        if code == 0:
            break
        num_kills += 1
    assert num_kills > 10
