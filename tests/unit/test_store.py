"""What the local store keeps, refuses, heals and says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tasks.artifacts import ArtifactKind, ArtifactRef, Manifest, ManifestEntry
from tasks.canonical import canonical_json
from tasks.errors import Corrupted, StoreError
from tasks.store import open_store
from tasks.store.base import Record
from tasks.store.files import write_durably
from tasks.store.layout import safe_name
from tasks.store.local import LocalStore

IDENTITY = "1" * 64


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "a.json").write_text("{}")
    (root / "sub" / "b.bin").write_bytes(b"\0" * 5000)
    return root


def record(**changed: Any) -> Record:
    fields: dict[str, Any] = {
        "step": "train",
        "identity": IDENTITY,
        "spec": {"lr": 1e-3},
        "result": {"loss": 2.5},
        "artifacts": (),
    }
    return Record(**{**fields, **changed})


def objects(store: LocalStore) -> list[Path]:
    return sorted(store.home.glob("objects/*/*"))


# -- keeping ---------------------------------------------------------------------------


def test_kept_folder_reads_back_file_by_file(store: LocalStore, folder: Path) -> None:
    ref = store.put(folder, ArtifactKind.FOLDER, "data")
    view = store.materialize(ref)
    assert (view / "a.json").read_text() == "{}"
    assert (view / "sub" / "b.bin").read_bytes() == b"\0" * 5000
    assert ref.size_bytes == 5002
    assert (folder / "a.json").read_text() == "{}", "without move the original stays"
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in objects(store))


def test_keeping_twice_keeps_once(store: LocalStore, folder: Path) -> None:
    first = store.put(folder, ArtifactKind.FOLDER, "data")
    before = {path: path.stat().st_ino for path in objects(store)}
    assert store.put(folder, ArtifactKind.FOLDER, "data") == first
    assert {path: path.stat().st_ino for path in objects(store)} == before


def test_moving_makes_the_file_itself_the_object(store: LocalStore, folder: Path) -> None:
    inode = (folder / "sub" / "b.bin").stat().st_ino
    ref = store.put(folder, ArtifactKind.FOLDER, "data", move=True)
    assert inode in {path.stat().st_ino for path in objects(store)}
    store.verify(ref)


def test_moving_leaves_files_that_others_can_reach_alone(store: LocalStore, tmp_path: Path) -> None:
    """A link, or a second name, would let its owner change the object later."""
    original = tmp_path / "original"
    original.write_text("words")
    (tmp_path / "second-name").hardlink_to(original)
    (tmp_path / "link").symlink_to(original)
    for name in ("second-name", "link"):
        ref = store.put(tmp_path / name, ArtifactKind.FILE, name, move=True)
    original.write_text("other words")
    store.verify(ref)


def test_files_from_many_places_make_one_folder(store: LocalStore, folder: Path) -> None:
    files = {"x/one.json": folder / "a.json", "two": folder / "sub" / "b.bin"}
    view = store.materialize(store.put_files(files, ArtifactKind.FOLDER, "mixed"))
    assert {str(p.relative_to(view)) for p in view.rglob("*") if p.is_file()} == set(files)


def test_file_keeps_its_suffix_and_each_of_its_names(store: LocalStore, folder: Path) -> None:
    for name in ("model.gguf", "copy.bin"):
        path = store.materialize(store.put(folder / "sub" / "b.bin", ArtifactKind.FILE, name))
        assert path.name == name
        assert path.read_bytes() == b"\0" * 5000


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("...", "file"),
        ("", "file"),
        ("x" * 500 + ".json", "x" * 195 + ".json"),
        ("a\0b", "a_b"),
    ],
)
def test_readable_names_cannot_lead_outside(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_damaged_object_is_healed_by_keeping_it_again(store: LocalStore, folder: Path) -> None:
    ref = store.put(folder, ArtifactKind.FOLDER, "data")
    for path in objects(store):
        path.chmod(0o644)
        path.write_bytes(b"x")
    with pytest.raises(Corrupted):
        store.verify(ref)
    assert store.put(folder, ArtifactKind.FOLDER, "data") == ref
    store.verify(ref)


def test_hostile_manifest_is_corrupted_and_touches_nothing(
    store: LocalStore, tmp_path: Path
) -> None:
    """Its digest is right; what it says is not."""
    inner = {"path": "../../../escaped", "size_bytes": 1, "sha256": "0" * 64, "executable": False}
    documents = [
        {"format": "labwright-manifest-1", "files": [inner]},
        {"format": "labwright-manifest-1", "files": [{**inner, "path": "/escaped"}]},
        {"format": "labwright-manifest-9", "files": []},
        {"files": {}},
        [],
    ]
    for data in [
        *map(canonical_json, documents),
        b'{"files": [], "format": "labwright-manifest-1"}',
    ]:
        source = tmp_path / "manifest"
        source.write_bytes(data)
        file = store.put(source, ArtifactKind.FILE, "manifest")
        ref = file.model_copy(update={"is_folder": True})
        for read in (store.verify, store.materialize, store.manifest):
            with pytest.raises(Corrupted, match="is not a manifest"):
                read(ref)
    assert not list(tmp_path.rglob("escaped"))


def test_wrong_size_in_a_reference_or_manifest_is_noticed(store: LocalStore, folder: Path) -> None:
    ref = store.put(folder / "a.json", ArtifactKind.FILE, "a.json")
    with pytest.raises(Corrupted, match="has 2 bytes, not 3"):
        store.verify(ref.model_copy(update={"size_bytes": 3}))
    entry = ManifestEntry(path="a", size_bytes=9, sha256=ref.digest)
    manifest = folder / "manifest"
    manifest.write_bytes(Manifest(files=(entry,)).to_bytes())
    kept = store.put(manifest, ArtifactKind.FILE, "m")
    with pytest.raises(Corrupted, match=r"file a: .* has 2 bytes, not 9"):
        store.verify(kept.model_copy(update={"is_folder": True, "size_bytes": 9}))


# -- records ---------------------------------------------------------------------------


def test_first_record_of_an_identity_stands(store: LocalStore) -> None:
    first = store.commit(record(result={"loss": 1.0}))
    assert store.commit(record(result={"loss": 2.0})) == first
    assert store.read_record("train", IDENTITY) == first
    assert store.read_record("train", "2" * 64) is None


def test_threads_that_commit_at_once_agree_on_one_record(store: LocalStore) -> None:
    answers: list[Record] = []
    barrier = threading.Barrier(8)

    def commit(number: int) -> None:
        barrier.wait()
        answers.append(store.commit(record(result={"loss": float(number)})))

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)


def test_record_is_refused_while_an_artifact_of_it_is_not_kept(store: LocalStore) -> None:
    missing = ArtifactRef(kind=ArtifactKind.FILE, digest="3" * 64, size_bytes=1, name="model.bin")
    with pytest.raises(Corrupted, match=r"'model.bin' .* is missing"):
        store.commit(record(artifacts=(missing,)))
    assert store.read_record("train", IDENTITY) is None


def test_set_aside_record_is_kept_for_a_look(store: LocalStore) -> None:
    for number in (1, 2):
        store.commit(record())
        path = store.home / "records" / "train" / f"{IDENTITY}.json"
        path.chmod(0o644)
        path.write_text(f"damage {number}")
        store.set_aside("train", IDENTITY)
        assert store.read_record("train", IDENTITY) is None
        assert path.with_name(f"{path.name}.corrupt-{number}").read_text() == f"damage {number}"
    store.set_aside("train", IDENTITY)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": "labwright-record-9"}'],
)
def test_any_other_bytes_are_no_record_and_no_traceback(store: LocalStore, data: bytes) -> None:
    path = store.home / "records" / "train" / f"{IDENTITY}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(Corrupted, match=f"record train/{IDENTITY}"):
        store.read_record("train", IDENTITY)


def test_names_from_outside_cannot_lead_outside(store: LocalStore) -> None:
    for step, key in (("../x", IDENTITY), ("train", "../x"), ("", IDENTITY), ("train", "A" * 64)):
        with pytest.raises(ValueError, match="cannot be part of a path"):
            store.read_record(step, key)
    with pytest.raises(ValueError, match="cannot be part of a path"):
        store.staging("../x")


def test_record_with_a_number_that_is_none_is_refused(store: LocalStore) -> None:
    with pytest.raises(ValueError, match="nan is not a finite number"):
        store.commit(record(result={"loss": float("nan")}))
    assert store.read_record("train", IDENTITY) is None


# -- what the machine refuses ----------------------------------------------------------


def test_missing_input_is_said_with_its_path(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot keep 'x': .*nowhere: No such file"):
        store.put(tmp_path / "nowhere", ArtifactKind.FILE, "x")
    assert not store.home.exists(), "nothing was written for it"


def test_full_disk_is_said_with_advice_and_leaves_nothing(
    store: LocalStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(folder / "a.json", ArtifactKind.FILE, "a.json")
    before = objects(store)
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 1000:
            real_write(fd, bytes(data)[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"No space left on device; free some space .*LABWRIGHT"):
        store.put(folder, ArtifactKind.FOLDER, "data")
    with pytest.raises(StoreError, match=r"keep the result of train.*No space left"):
        store.commit(record(provenance={"diff": "x" * 2000}))
    monkeypatch.undo()
    assert objects(store) == before
    assert [path.name for path in store.home.glob("scratch/*/*")] == ["lock"]
    store.verify(store.put(folder, ArtifactKind.FOLDER, "data"))


FULL_TMPFS = """
import sys
from pathlib import Path
from tasks.artifacts import ArtifactKind
from tasks.errors import StoreError
from tasks.store.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
try:
    store.put(Path(sys.argv[2]), ArtifactKind.FILE, "big")
except StoreError as error:
    print(error)
"""


def test_disk_that_is_really_full_is_said_too(tmp_path: Path) -> None:
    big, mount = tmp_path / "big", tmp_path / "mount"
    big.write_bytes(b"x" * 2_000_000)
    mount.mkdir()
    code = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1/home" "$4"'
    arguments = [str(mount), sys.executable, FULL_TMPFS, str(big)]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", code, "sh", *arguments],
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert "cannot keep 'big'" in done.stdout, done.stderr
    assert "No space left on device" in done.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(function: Callable[[], None]) -> None:
    """Run in a fork without root's power to write everywhere; the fork's failure is ours."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            function()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_unwritable_home_is_said_with_advice(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o555)
    source = open_folder / "source"
    source.write_text("words")
    source.chmod(0o644)

    def try_everything() -> None:
        store = LocalStore(home)
        assert store.read_record("train", IDENTITY) is None, "reading needs no permission to write"
        for write in (
            lambda: store.put(source, ArtifactKind.FILE, "x"),
            lambda: store.commit(record()),
            lambda: store.staging(IDENTITY),
        ):
            with pytest.raises(StoreError, match=r"Permission denied; give yourself access"):
                write()

    as_nobody(try_everything)
    assert list(home.iterdir()) == []


def test_unreadable_object_is_not_taken_for_corrupted(open_folder: Path) -> None:
    """It would be computed again for nothing, and could not be kept."""
    store = LocalStore(open_folder / "home")
    source = open_folder / "source"
    source.write_text("words")
    ref = store.put(source, ArtifactKind.FILE, "x")
    for path in (store.home, *store.home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o400)

    def read() -> None:
        with pytest.raises(StoreError, match="Permission denied"):
            LocalStore(store.home).manifest(ref)

    if os.geteuid() == 0:
        as_nobody(read)


def test_write_durably_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_store_of_the_settings_is_opened_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path / "home"))
    assert open_store().read_record("train", IDENTITY) is None
    assert not (tmp_path / "home").exists()


def test_importing_the_store_loads_nothing_heavy() -> None:
    code = "import sys, tasks.store, tasks.identity, tasks.store.inputs, tasks.store.journal; "
    code += "print([name for name in ('torch', 'prefect', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


READ_WHEN_TOLD = """
import sys
from pathlib import Path
from tasks.artifacts import ArtifactRef
from tasks.store.local import LocalStore

store = LocalStore(Path(sys.argv[1]))
for line in sys.stdin:
    view = store.materialize(ArtifactRef.model_validate_json(line))
    assert {path.name for path in view.iterdir()} == {f"{i:02}.txt" for i in range(40)}
    assert all(path.read_text() for path in view.iterdir())
    print("read", flush=True)
"""


def test_readers_that_come_at_once_never_lose_what_they_read(
    store: LocalStore, tmp_path: Path
) -> None:
    num_readers, refs = 4, []
    for number in range(25):
        folder = tmp_path / str(number)
        folder.mkdir()
        for i in range(40):
            (folder / f"{i:02}.txt").write_text(f"{number} {i}")
        refs.append(store.put(folder, ArtifactKind.FOLDER, "shared"))
    argv = [sys.executable, "-P", "-c", READ_WHEN_TOLD, str(store.home)]
    with ExitStack() as stack:
        readers = [
            stack.enter_context(
                subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(num_readers)
        ]
        for ref in refs:
            for reader in readers:
                assert reader.stdin is not None
                print(ref.model_dump_json(), file=reader.stdin, flush=True)
            assert [reader.stdout and reader.stdout.readline() for reader in readers] == (
                ["read\n"] * num_readers
            )
