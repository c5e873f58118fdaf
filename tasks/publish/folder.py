"""A folder with a model and what explains it: whole or not at all, every byte verified on its way.

    publish_folder(ref, {"README.md": b"..."}, Path("out/model"), open_store())

A model's own file of a name that is taken by an extra is kept as `<stem>.base<suffix>`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tasks.artifacts import ArtifactRef, ManifestEntry
from tasks.errors import Corrupted, SpecError, StoreError
from tasks.store.base import Store

CHUNK_BYTES = 1 << 20


def refuse_taken(target: Path) -> None:
    """`SpecError` unless the folder is free: absent, or empty."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise SpecError(f"{target} is no folder; name another with --to")
    if target.is_dir() and any(target.iterdir()):
        raise SpecError(f"{target} is not empty; name another folder with --to, or empty it")


def publish_folder(
    model: ArtifactRef, extras: Mapping[str, bytes], target: Path, store: Store
) -> int:
    """Copy and write; returns the number of files.

    `SpecError` if the folder is taken, `Corrupted` if what is kept is damaged.
    """
    refuse_taken(target)
    target = target.absolute()
    try:
        source = store.materialize(model)
        manifest = store.manifest(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as staging:
            whole = Path(staging) / "whole"
            whole.mkdir(mode=0o755)
            for entry in manifest.files:
                name = _beside(entry.path) if entry.path in extras else entry.path
                _copy(source / entry.path, whole / name, entry)
            for name, content in extras.items():
                _write(whole / name, content)
            for folder in (whole, *(path for path in whole.rglob("*") if path.is_dir())):
                _sync_folder(folder)
            refuse_taken(target)
            os.rename(whole, target)  # over an empty folder; the kernel refuses a full one
            _sync_folder(target.parent)
    except OSError as error:
        where = error.filename or target
        raise StoreError(f"cannot publish to {target}: {error.strerror} ({where})") from error
    return len(manifest.files) + len(extras)


def _beside(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.base{path.suffix}"))


def _copy(source: Path, target: Path, entry: ManifestEntry) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(CHUNK_BYTES):
            digest.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    if digest.hexdigest() != entry.sha256:
        raise Corrupted(str(source), "is not what its manifest says")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
