"""The store in a folder of this machine: `LocalStore` keeps what `tasks.store.base` promises.

    store = LocalStore(Path("~/.labwright").expanduser())
    ref = store.put(Path("model"), ArtifactKind.MODEL, "quickstart")
    store.verify(ref)                      # Corrupted, naming the file, if a bit changed

The commit order is objects, their folders, then the record. A process that is killed in between
leaves objects that nobody names, which do no harm, and half-made files in its scratch folder, which
the next process to write clears.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from tasks.artifacts import (
    ArtifactKind,
    ArtifactRef,
    Manifest,
    ManifestEntry,
    files_below,
    folder_ref,
    manifest_entry,
)
from tasks.digests import in_threads
from tasks.errors import Corrupted, StoreError
from tasks.store.base import Lease, OnWait, Record
from tasks.store.failures import in_words
from tasks.store.files import make_folder
from tasks.store.layout import Layout
from tasks.store.lease import acquire
from tasks.store.objects import Objects
from tasks.store.records import Records
from tasks.store.scratch import scratch_path
from tasks.store.views import Views


class LocalStore:
    """See `tasks.store.base.Store`. Cheap to make: it opens nothing before it is used."""

    def __init__(self, home: Path):
        self.home = home
        self._layout = Layout(home)
        self._objects = Objects(self._layout)
        self._records = Records(self._layout)
        self._views = Views(self._layout)

    # -- artifacts ---------------------------------------------------------------------

    def put(self, path: Path, kind: ArtifactKind, name: str, *, move: bool = False) -> ArtifactRef:
        """Keep a file or folder (fsynced, atomic); `StoreError` for what cannot be kept."""
        with self._in_words(f"keep '{name}'", path):
            try:
                if path.is_dir():
                    return self.put_files(files_below(path), kind, name, move=move)
                digest, size_bytes = self._objects.add(path, move=move)
            except ValueError as error:
                raise StoreError(f"cannot keep '{name}': {error}") from error
            self._objects.sync([digest])
        return ArtifactRef(kind=kind, digest=digest, size_bytes=size_bytes, name=name)

    def put_files(
        self, files: Mapping[str, Path], kind: ArtifactKind, name: str, *, move: bool = False
    ) -> ArtifactRef:
        """Keep files as one folder, each under its relative POSIX path."""

        def add(item: tuple[str, Path]) -> ManifestEntry:
            relative, path = item
            entry = manifest_entry(relative, path, digest="0" * 64)
            digest, size_bytes = self._objects.add(path, move=move)
            return entry.model_copy(update={"sha256": digest, "size_bytes": size_bytes})

        with self._in_words(f"keep '{name}'", self.home):
            manifest = Manifest(files=tuple(in_threads(add, sorted(files.items()))))
            digest = self._objects.add_bytes(manifest.to_bytes())
            self._objects.sync([digest, *(entry.sha256 for entry in manifest.files)])
        return folder_ref(manifest, kind, name)

    def verify(self, ref: ArtifactRef) -> None:
        """Raise `Corrupted`, naming the file, unless every byte is what its digest says."""
        with self._in_words(f"verify '{ref.name}'", self.home):
            if not ref.is_folder:
                self._objects.verify(ref.digest, ref.size_bytes, _label(ref))
                return
            in_threads(functools.partial(self._verify_entry, ref), self.manifest(ref).files)

    def _verify_entry(self, ref: ArtifactRef, entry: ManifestEntry) -> None:
        self._objects.verify(entry.sha256, entry.size_bytes, f"{_label(ref)}, file {entry.path}")

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The verified manifest of a folder artifact."""
        what = _label(ref)
        with self._in_words(f"read '{ref.name}'", self.home):
            data = self._objects.read(ref.digest, what)
        try:
            manifest = _parse_manifest(data)
        except ValueError as error:
            reason = str(error).partition("\n")[0]
            raise Corrupted(what, f"object {ref.digest} is not a manifest: {reason}") from error
        if manifest.size_bytes != ref.size_bytes:
            reason = f"its files have {manifest.size_bytes} bytes, not {ref.size_bytes}"
            raise Corrupted(what, reason)
        return manifest

    def materialize(self, ref: ArtifactRef) -> Path:
        """Verify, then lay out below `views/`; the same path each time, made anew if it was
        tampered with."""
        self.verify(ref)
        with self._in_words(f"lay out '{ref.name}'", self.home):
            if ref.is_folder:
                return self._views.of_folder(ref, self.manifest(ref))
            return self._views.of_file(ref)

    # -- records -----------------------------------------------------------------------

    def read_record(self, step: str, identity: str) -> Record | None:
        """The record, verified; None if there is none; `Corrupted` names what is wrong with it."""
        with self._in_words(f"read the record of {step}", self.home):
            return self._records.read(step, identity)

    def set_aside(self, step: str, identity: str) -> None:
        """Rename a corrupted record to `<name>.corrupt-<n>`."""
        with self._in_words(f"set aside the record of {step}", self.home):
            self._records.set_aside(step, identity)

    def commit(self, record: Record) -> Record:
        """Write the record exclusively; returns the one that stands (the first writer's)."""
        for ref in (*record.artifacts, *([record.logs] if record.logs else [])):
            self.verify(ref)
        with self._in_words(f"keep the result of {record.step}", self.home):
            return self._records.commit(record)

    # -- the right to compute ----------------------------------------------------------

    @asynccontextmanager
    async def lease(self, identity: str, on_wait: OnWait | None = None) -> AsyncIterator[Lease]:
        """Wait for and hold the right to compute an identity; freed at death of the holder."""
        path = self._layout.lease(identity)
        with self._in_words("take the lease", path):
            fd = await acquire(path, on_wait)
        try:
            yield Lease(identity, (fd,))
        finally:
            os.close(fd)

    def staging(self, identity: str) -> Path:
        """The folder below which the lease's holder works; on the same file system as objects."""
        folder = self._layout.staging(identity)
        with self._in_words("make a folder to work in", folder):
            make_folder(folder)
        return folder

    def has_staging(self, identity: str) -> bool:
        """Whether somebody works in the identity's staging folder, or died there."""
        return self._layout.staging(identity).exists()

    def clear_staging(self, identity: str) -> None:
        """Remove the staging folder: gone at once, as it is renamed before it is emptied."""
        folder = self._layout.staging(identity)
        with self._in_words("clear the folder of a finished step", folder):
            aside = scratch_path(self._layout.scratch)
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _in_words(self, doing: str, path: Path) -> AbstractContextManager[None]:
        return in_words(doing, path, self.home)


def _label(ref: ArtifactRef) -> str:
    return f"{ref.kind} '{ref.name}' ({ref.digest[:12]})"


@functools.lru_cache(maxsize=256)
def _parse_manifest(data: bytes) -> Manifest:
    """The manifest that canonical bytes hold; ValueError for any other bytes."""
    manifest = Manifest.model_validate_json(data)
    if manifest.to_bytes() != data:
        raise ValueError("it is not canonical")
    return manifest
