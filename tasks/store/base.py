"""What a store promises, whatever it stands on (a local folder now, S3 behind the same Protocol).

Reads are verified: bytes that are not what their digest says raise `Corrupted`, they are never
served. Commits are exclusive: the first record of an identity wins.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from tasks.artifacts import ArtifactKind, ArtifactRef, Manifest
from tasks.spec import Frozen


class Record(Frozen):
    """One finished step: what went in, what came out, and under which circumstances."""

    step: str
    identity: str
    spec: dict[str, Any] = Field(description="The spec as JSON, inputs resolved to artifacts.")
    result: dict[str, Any] = Field(description="The result as JSON.")
    artifacts: tuple[ArtifactRef, ...] = Field(description="Every artifact that the result names.")
    logs: ArtifactRef | None = Field(default=None, description="stdout, stderr and metrics.")
    provenance: dict[str, Any] = Field(default_factory=dict)


class Store(Protocol):
    """Objects by digest, records by identity, leases by identity."""

    def put(
        self, path: Path, kind: ArtifactKind, name: str, *, move: bool = False
    ) -> ArtifactRef: ...

    """Keep a file or folder (fsynced, atomic). `move` may consume the original."""

    def verify(self, ref: ArtifactRef) -> None: ...

    """Raise `Corrupted` unless every byte of the artifact is what its digest says."""

    def manifest(self, ref: ArtifactRef) -> Manifest: ...

    """The verified manifest of a folder artifact."""

    def materialize(self, ref: ArtifactRef) -> Path: ...

    """Verify, then lay the artifact out as a read-only file or folder; returns its path."""

    def read_record(self, step: str, identity: str) -> Record | None: ...

    """The record, verified; None if there is none; `Corrupted` names what is wrong with it."""

    def set_aside(self, step: str, identity: str) -> None: ...

    """Move a corrupted record out of the way, keeping it for a look."""

    def commit(self, record: Record) -> Record: ...

    """Write the record exclusively; returns the one that stands (the first writer's)."""

    def lease(self, identity: str) -> AbstractAsyncContextManager[None]: ...

    """Wait for and hold the right to compute an identity; freed at death of the holder."""

    def staging(self, identity: str) -> Path: ...

    """The folder below which the lease's holder works; on the same file system as objects."""
