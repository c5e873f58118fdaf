"""Bundles that were tampered with: nothing leaves the folder, nothing is believed."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from pathlib import Path

import pytest

from flows.experiment.bundle import MANIFEST, make_bundle, unpack_bundle
from tasks.errors import Corrupted, SpecError, StoreError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    logs = tmp_path / "in" / "logs"
    (logs / "train").mkdir(parents=True)
    (logs / "train" / "stdout.txt").write_text("hello\n" * 1000)
    make_bundle(path, {"run.json": b"{}", "logs": logs}, "01RUN")
    return path


def forge(path: Path, members: list[tuple[str, bytes]], mode: int = 0o100644) -> Path:
    """A zip whose manifest is right about everything."""
    files = [
        {"path": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members
    ]
    manifest = {"format": "labwright-bundle-1", "run": "01RUN", "files": files}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        archive.writestr(MANIFEST, json.dumps(manifest))
    return path


def refused(path: Path, to: Path, **limits: int) -> str:
    before = sorted(to.parent.rglob("*"))
    with pytest.raises(Corrupted) as error:
        unpack_bundle(path, to, **limits)
    assert sorted(to.parent.rglob("*")) == before
    return str(error.value)


def test_what_was_packed_comes_back(bundle: Path, tmp_path: Path):
    manifest = unpack_bundle(bundle, tmp_path / "out")
    assert manifest.run == "01RUN"
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert found == {"run.json", "logs/train/stdout.txt"}
    assert (tmp_path / "out/logs/train/stdout.txt").read_text() == "hello\n" * 1000


def test_packing_is_deterministic(bundle: Path, tmp_path: Path):
    again = tmp_path / "again.zip"
    make_bundle(again, {"run.json": b"{}", "logs": bundle.parent / "logs"}, "01RUN")
    assert again.read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "a/./x", "a//x", "..\\x", "C:x", "a/", "x\ny", f"{'n' * 300}"],
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str):
    (tmp_path / "to").mkdir()
    path = forge(tmp_path / "a.zip", [(name, b"x")])
    assert re.search("leads out|is no manifest", refused(path, tmp_path / "to" / "out"))
    assert not (tmp_path / "to" / "x").exists()


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, mode: int):
    (tmp_path / "to").mkdir()
    path = forge(tmp_path / "a.zip", [("link", b"/etc/passwd")], mode | 0o777)
    assert "not a plain file" in refused(path, tmp_path / "to" / "out")


def rewrite(path: Path, change: str) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop(MANIFEST))
    match change:
        case "surplus":
            members["more"] = b"x"
        case "missing":
            del members["run.json"]
        case "content":
            members["run.json"] = b"[]"
        case "longer":
            members["run.json"] = b"{}" + b" " * 10_000_000
        case "twice":
            manifest["files"].append(manifest["files"][0])
        case "format":
            manifest["format"] = "labwright-bundle-0"
        case "field":
            manifest["more"] = 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if change != "no manifest":
            archive.writestr(MANIFEST, json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("surplus", "'more' is in it, and not in its manifest"),
        ("missing", "'run.json' is missing"),
        ("content", "'run.json' is not what its manifest says"),
        ("longer", "'run.json' is larger than its manifest says"),
        ("twice", "twice"),
        ("format", "no manifest"),
        ("field", "no manifest"),
        ("no manifest", f"has no {MANIFEST}"),
    ],
)
def test_what_is_not_as_its_manifest_says_is_refused(
    bundle: Path, tmp_path: Path, change: str, words: str
):
    rewrite(bundle, change)
    (tmp_path / "to").mkdir()
    assert words in refused(bundle, tmp_path / "to" / "out")


def test_a_manifest_that_asks_for_too_much_is_refused_before_anything_is_written(tmp_path: Path):
    (tmp_path / "to").mkdir()
    path = forge(tmp_path / "a.zip", [("bomb", bytes(50_000_000))])
    assert path.stat().st_size < 100_000
    assert "1000000 are allowed" in refused(path, tmp_path / "to" / "out", max_bytes=1_000_000)


def test_every_cut_is_refused_in_words(bundle: Path, tmp_path: Path):
    whole = bundle.read_bytes()
    (tmp_path / "to").mkdir()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        bundle.write_bytes(whole[:length])
        refused(bundle, tmp_path / "to" / "out")


def test_a_flipped_byte_is_refused_or_changes_nothing(bundle: Path, tmp_path: Path):
    whole = bundle.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 100)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        bundle.write_bytes(damaged)
        out = tmp_path / f"out{position}"
        try:
            unpack_bundle(bundle, out)
        except (Corrupted, StoreError):
            assert not out.exists()
        else:
            assert (out / "run.json").read_bytes() == b"{}"
            assert (out / "logs/train/stdout.txt").read_text() == "hello\n" * 1000


def test_a_folder_that_holds_something_is_not_written_to(bundle: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(SpecError, match="exists already"):
        unpack_bundle(bundle, tmp_path / "out")


def test_whatever_files_are_called_what_was_packed_can_be_unpacked(tmp_path: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ("a:b.txt", "a%3Ab.txt", "back\\slash", "new\nline", "\udcff.bin", "caf\u00e9"):
        (folder / name).write_text(ascii(name))
    make_bundle(tmp_path / "a.zip", {"odd": folder}, "01RUN")
    unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    found = {path.name: path.read_text() for path in (tmp_path / "out" / "odd").iterdir()}
    assert found == {
        "a%3Ab.txt": "'a:b.txt'",
        "a%253Ab.txt": "'a%3Ab.txt'",
        "back%5Cslash": ascii("back\\slash"),
        "new%0Aline": ascii("new\nline"),
        "%FF.bin": ascii("\udcff.bin"),
        "caf\u00e9": ascii("caf\u00e9"),
    }


def test_a_name_that_cannot_be_packed_is_refused_before_there_is_a_bundle(tmp_path: Path):
    with pytest.raises(StoreError, match="cannot be the name"):
        make_bundle(tmp_path / "a.zip", {"../out": b""}, "01RUN")
    assert list(tmp_path.iterdir()) == []
