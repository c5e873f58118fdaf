"""What a store promises, whatever it stands on (a local folder now, S3 behind the same Protocol).

Reads are verified: bytes that are not what their digest says raise `Corrupted`, they are never
served. Commits are exclusive: the first record of an identity wins. What the store cannot read or
write for reasons of its own (a full disk, missing permissions) raises `StoreError` in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from tasks.artifacts import ArtifactKind, ArtifactRef, Manifest
from tasks.spec import Frozen


class Record(Frozen):
    """One finished step: what went in, what came out, and under which circumstances."""

    step: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name of the step.")
    identity: str = Field(pattern=r"^[0-9a-f]{64}$", description="What was computed.")
    spec: dict[str, Any] = Field(description="The spec as JSON, inputs resolved to artifacts.")
    result: dict[str, Any] = Field(description="The result as JSON.")
    artifacts: tuple[ArtifactRef, ...] = Field(description="Every artifact that the result names.")
    logs: ArtifactRef | None = Field(default=None, description="stdout, stderr and metrics.")
    provenance: dict[str, Any] = Field(
        default_factory=dict, description="Code, versions, machine and time."
    )


class Holder(Frozen):
    """Who holds a lease, for whoever waits for it."""

    host: str = Field(description="Name of the machine.")
    pid: int = Field(description="Process on that machine.")
    since: str = Field(description="When it took the lease, ISO 8601 in UTC.")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(frozen=True)
class Lease:
    """The right to compute an identity, while the context manager that gave it is open.

    `fds` are open files that hold the lease, where it stands on files: a child process that
    inherits them keeps it, should this process be killed while the child still works.
    """

    identity: str
    fds: tuple[int, ...] = ()


OnWait = Callable[[Holder | None], None]


class Store(Protocol):
    """Objects by digest, records by identity, leases by identity."""

    def put(self, path: Path, kind: ArtifactKind, name: str, *, move: bool = False) -> ArtifactRef:
        """Keep a file or folder (fsynced, atomic). `move` may consume the original.

        An object that is there already is verified, and replaced where it was damaged.
        """
        ...

    def put_files(
        self, files: Mapping[str, Path], kind: ArtifactKind, name: str, *, move: bool = False
    ) -> ArtifactRef:
        """Keep files as one folder, each under its relative POSIX path, wherever they lie now."""
        ...

    def verify(self, ref: ArtifactRef) -> None:
        """Raise `Corrupted` unless every byte of the artifact is what its digest says."""
        ...

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The verified manifest of a folder artifact."""
        ...

    def materialize(self, ref: ArtifactRef) -> Path:
        """Verify, then lay the artifact out as a read-only file or folder; returns its path."""
        ...

    def read_record(self, step: str, identity: str) -> Record | None:
        """The record, verified; None if there is none; `Corrupted` names what is wrong with it."""
        ...

    def set_aside(self, step: str, identity: str) -> None:
        """Move a corrupted record out of the way, keeping it for a look."""
        ...

    def commit(self, record: Record) -> Record:
        """Write the record exclusively; returns the one that stands (the first writer's).

        `Corrupted` if an artifact that it names is not intact in the store.
        """
        ...

    def lease(
        self, identity: str, on_wait: OnWait | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Wait for and hold the right to compute an identity; freed at death of the holder.

        `on_wait` is told once who holds it, where there is something to wait for.
        """
        ...

    def staging(self, identity: str) -> Path:
        """The folder below which the lease's holder works; on the same file system as objects."""
        ...

    def has_staging(self, identity: str) -> bool:
        """Whether somebody works in the identity's staging folder, or died there."""
        ...

    def clear_staging(self, identity: str) -> None:
        """Remove the staging folder, checkpoints included; for the lease's holder, when done."""
        ...
