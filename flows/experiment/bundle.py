"""The zip that a run leaves, and its safe way back to files.

    make_bundle(path, {"run.json": Path(…), "logs/train/stdout.txt": Path(…)}, run="01J…")
    unpack_bundle(path, Path("unpacked"))

MANIFEST.json, its last member, lists every other with size and sha256. Unpacking believes nothing:
names stay inside of the folder, links and surplus members are refused, no member grows past its
listed size, every digest is checked, and the folder appears whole or not at all. A file whose name
would be refused is packed under that name with the offending characters as %XX; so is `%` itself,
so that no two files share a name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from pydantic import Field, ValidationError

from tasks.artifacts import ManifestEntry
from tasks.errors import Corrupted, Problem, SpecError, StoreError
from tasks.spec import Frozen

MANIFEST = "MANIFEST.json"
CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 64 << 20
MAX_MEMBERS = 100_000
FORBIDDEN = "\\:\0"  # in the names of members
ESCAPED = FORBIDDEN + "%"
NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
UNREADABLE = (  # what zipfile raises for bytes that are no zip, or not any more
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)
STORED_SUFFIXES = {".safetensors", ".zip", ".png", ".gz", ".gguf"}  # compressing these is no gain


class BundleManifest(Frozen):
    """What a bundle holds."""

    format: Literal["labwright-bundle-1"] = "labwright-bundle-1"
    run: str = Field(description="Id of the run.")
    files: tuple[ManifestEntry, ...] = Field(max_length=MAX_MEMBERS)


def make_bundle(path: Path, members: Mapping[str, Path | bytes], run: str) -> BundleManifest:
    """Write the zip atomically; folders are taken with all their files."""
    entries: list[ManifestEntry] = []
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, source in _files(members):
                entries.append(_add(archive, name, source))
            manifest = BundleManifest(run=run, files=tuple(entries))
            content = manifest.model_dump_json(indent=1).encode()
            archive.writestr(zipfile.ZipInfo(MANIFEST, NO_DATE), content)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _files(members: Mapping[str, Path | bytes]) -> list[tuple[str, Path | bytes]]:
    found: list[tuple[str, Path | bytes]] = []
    for name, source in sorted(members.items()):
        if isinstance(source, Path) and source.is_dir():
            found += [
                (f"{name}/{file.relative_to(source).as_posix()}", file)
                for file in sorted(source.rglob("*"))
                if file.is_file()
            ]
        else:
            found.append((name, source))
    return [(_packable(name), source) for name, source in found]


def _packable(name: str) -> str:
    """The name as it may stand in a bundle."""
    safe = "".join(
        character
        if character.isprintable() and character not in ESCAPED
        else quote(character, safe="", errors="surrogateescape")
        for character in name
    )
    if not _is_safe(safe):
        raise StoreError(f"'{safe}' cannot be the name of a file in a bundle")
    return safe


def _add(archive: zipfile.ZipFile, name: str, source: Path | bytes) -> ManifestEntry:
    info = zipfile.ZipInfo(name, NO_DATE)
    is_stored = PurePosixPath(name).suffix in STORED_SUFFIXES
    info.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as target:
        if isinstance(source, bytes):
            target.write(source)
            digest.update(source)
            size = len(source)
        else:
            with source.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    target.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
    return ManifestEntry(path=name, size_bytes=size, sha256=digest.hexdigest())


WHICH_FILE = "`labwright show ID` names the bundle of a run"


def unpack_bundle(path: Path, folder: Path, max_bytes: int | None = None) -> BundleManifest:
    """Unpack into a folder that does not exist yet; raises `Corrupted` and leaves nothing behind.

    `max_bytes` limits what the manifest may ask for; the free space of the disk always does.
    """
    if not path.is_file():
        what = "is no plain file" if path.exists() else "there is no such file"
        raise SpecError([Problem(f"{what}; {WHICH_FILE}", str(path))])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder} exists already; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive, path)
            members = _members(archive, manifest, path)
            _refuse_too_large(manifest, folder.parent, max_bytes, path)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as staging:
                whole = Path(staging) / "whole"
                whole.mkdir()
                for entry in manifest.files:
                    _extract(archive, members[entry.path], entry, whole, path)
                whole.replace(folder)
    except UNREADABLE as error:
        reason = f"is no zip, or was cut short ({error}); {WHICH_FILE}"
        raise Corrupted(str(path), reason) from error
    except OSError as error:
        raise StoreError(f"cannot unpack {path}: {error.strerror or error}") from error
    return manifest


def _manifest(archive: zipfile.ZipFile, path: Path) -> BundleManifest:
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError as error:
        raise Corrupted(str(path), f"has no {MANIFEST}") from error
    with archive.open(info) as file:
        content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise Corrupted(str(path), f"its {MANIFEST} is too large")
    try:
        return BundleManifest.model_validate_json(content)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise Corrupted(str(path), f"its {MANIFEST} is no manifest: {reason}") from error


def _members(
    archive: zipfile.ZipFile, manifest: BundleManifest, path: Path
) -> dict[str, zipfile.ZipInfo]:
    """The zip's members by name, after every name, type and the list as a whole were checked."""
    listed = [entry.path for entry in manifest.files]
    found = [info.filename for info in archive.infolist()]
    if len(set(listed)) != len(listed) or len(set(found)) != len(found):
        raise Corrupted(str(path), "a name stands in it twice")
    surplus = set(found) - set(listed) - {MANIFEST}
    absent = set(listed) - set(found)
    if surplus or absent:
        name = min(surplus or absent)
        what = "is in it, and not in its manifest" if surplus else "is missing"
        raise Corrupted(str(path), f"'{name}' {what}")
    for info in archive.infolist():
        if not _is_safe(info.filename):
            raise Corrupted(str(path), f"the name '{info.filename}' leads out of the folder")
        mode = info.external_attr >> 16
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Corrupted(str(path), f"'{info.filename}' is compressed in another way than ours")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise Corrupted(str(path), f"'{info.filename}' is not a plain file")
    return {info.filename: info for info in archive.infolist()}


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    return (
        bool(name)
        and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        and not any(character in name for character in FORBIDDEN)
        and name.isprintable()
    )


def _refuse_too_large(
    manifest: BundleManifest, folder: Path, max_bytes: int | None, path: Path
) -> None:
    total = sum(entry.size_bytes for entry in manifest.files)
    free = shutil.disk_usage(folder).free
    limit = free if max_bytes is None else min(free, max_bytes)
    if total > limit:
        raise Corrupted(str(path), f"would unpack to {total} bytes; {limit} are allowed")


def _extract(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: ManifestEntry, whole: Path, path: Path
) -> None:
    """One member, never past its listed size, with its digest checked."""
    target = whole / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(info) as source, target.open("xb") as file:
        while chunk := source.read(min(CHUNK_BYTES, entry.size_bytes - size + 1)):
            size += len(chunk)
            if size > entry.size_bytes:
                raise Corrupted(str(path), f"'{entry.path}' is larger than its manifest says")
            digest.update(chunk)
            file.write(chunk)
    if size != entry.size_bytes or digest.hexdigest() != entry.sha256:
        raise Corrupted(str(path), f"'{entry.path}' is not what its manifest says")
