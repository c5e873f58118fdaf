"""Where everything of a local store lies: the one owner of its paths.

home/objects/ab/<sha256>              bytes by their digest, mode 0444
     records/<step>/<identity>.json   one finished step each
     leases/<identity>                flock of whoever computes it
     leases/view-<digest>             flock of whoever lays that view out
     staging/<identity>/              where that one works
     views/<digest>/                  artifacts laid out for reading
     scratch/<random>/                half-made files of one process each
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DIGEST = re.compile(r"[0-9a-f]{64}")
STEP = re.compile(r"[A-Za-z0-9_-]+")
MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class Layout:
    """Paths below a home; computing one touches no file."""

    home: Path

    def object(self, digest: str) -> Path:
        return self.home / "objects" / digest[:2] / _checked(DIGEST, digest)

    def record(self, step: str, identity: str) -> Path:
        folder = self.home / "records" / _checked(STEP, step)
        return folder / f"{_checked(DIGEST, identity)}.json"

    def lease(self, identity: str) -> Path:
        return self.home / "leases" / _checked(DIGEST, identity)

    def staging(self, identity: str) -> Path:
        return self.home / "staging" / _checked(DIGEST, identity)

    def view(self, digest: str) -> Path:
        return self.home / "views" / _checked(DIGEST, digest)

    def view_lock(self, digest: str) -> Path:
        return self.home / "leases" / f"view-{_checked(DIGEST, digest)}"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"


def safe_name(name: str) -> str:
    """A readable name as one that a file can have; its suffix survives."""
    readable = re.sub(r"[/\0]+", "_", name).lstrip(".") or "file"
    return readable.encode(errors="replace")[-MAX_NAME_BYTES:].decode(errors="ignore")


def _checked(pattern: re.Pattern[str], part: str) -> str:
    """The part of a path; what came from outside must not lead outside."""
    if not pattern.fullmatch(part):
        raise ValueError(f"{part!r} cannot be part of a path in the store")
    return part
