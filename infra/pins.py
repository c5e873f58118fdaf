"""Which packages an environment holds, and whether one that stands on disk is right.

A lock is a complete list of `name==version` lines. An environment is right when its stamp, written
as the last act of its set-up, carries the digest of its locks, and it still holds what they list;
without a stamp it is half-made.
Standard library only: set-up imports this on a bare Python. Knows nothing about how to install.

    environment = serve_environment(Path.home() / ".labwright", has_nvidia_gpu())
    environment.folder                # ~/.labwright/envs/serve-90e639b4d5507704
    environment.state()               # State.READY
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from infra.dotenv import read_dotenv

LOCKS = Path(__file__).parent / "locks"
STAMP = "labwright-stamp.json"
LOG = "setup.log"  # the first file of a set-up


class State(Enum):
    """What stands in an environment's folder."""

    ABSENT = "absent"
    HALF_MADE = "half-made"  # no stamp: its set-up did not come to its end
    OUTDATED = "outdated"  # made from another lock, or for another folder
    CHANGED = "changed since it was made"  # a locked package is missing or has another version
    READY = "ready"


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the locks that it is made from."""

    name: str
    folder: Path
    locks: tuple[Path, ...]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def pins(self) -> dict[str, str]:
        """Normalised package name to version, over all its locks."""
        return {name: version for lock in self.locks for name, version in read_pins(lock).items()}

    def digest(self) -> str:
        """Of its pins; comments and the order of lines don't count."""
        return digest(self.pins())

    def state(self) -> State:
        """Judged by its stamp, then by the metadata of its packages, which takes 0.3 s."""
        if not self.folder.exists():
            return State.ABSENT
        try:
            stamp = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return State.HALF_MADE
        if not self.python.exists():  # the interpreter that it links to is gone
            return State.HALF_MADE
        if stamp != self._stamp():
            return State.OUTDATED
        return State.CHANGED if self.differences() else State.READY

    def is_ours(self) -> bool:
        """Whether a set-up of ours made what stands in the folder, or began to."""
        return (self.folder / STAMP).exists() or (self.folder / LOG).exists()

    def write_stamp(self) -> None:
        """Declare the environment right; atomic, and the last act of a set-up."""
        temporary = self.folder / f"{STAMP}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self._stamp(), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / STAMP)

    def remove_stamp(self) -> None:
        """From here on the environment counts as half-made."""
        (self.folder / STAMP).unlink(missing_ok=True)

    def _stamp(self) -> dict[str, str]:
        # The folder belongs to it: an environment's scripts hold its path and break when it moves.
        return {"lock": self.digest(), "folder": str(self.folder.resolve())}

    def installed(self) -> dict[str, str]:
        """What its metadata says is installed, without starting its interpreter."""
        return installed_in(str(self.folder))

    def differences(self) -> list[str]:
        """Where what is installed is not what is locked, in words; empty when all is there."""
        installed = self.installed()
        return [
            f"{name} {installed.get(name) or 'is missing'}, locked {version}"
            for name, version in self.pins().items()
            if installed.get(name) != version
        ]


def core_environment(checkout: Path, has_gpu: bool) -> Environment:
    """The environment of flows and bodies, in the checkout where every editor finds it."""
    locks = ("core.txt", "core-cuda.txt") if has_gpu else ("core.txt",)
    return Environment("core", checkout / ".venv", tuple(LOCKS / lock for lock in locks))


def serve_environment(home: Path, has_gpu: bool) -> Environment:
    """vLLM's own environment; its folder is named by its lock, so that clones share it."""
    lock = LOCKS / ("serve-cuda.txt" if has_gpu else "serve-cpu.txt")
    folder = home / "envs" / f"serve-{digest(read_pins(lock))}"
    return Environment("serve", folder, (lock,))


def labwright_home() -> Path:
    """The folder where everything of a user lies: LABWRIGHT_HOME, if need be from `.env`.

    The same that tasks/settings.py finds, names in any case included.
    """
    file = Path(".env")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    given = {**_lowered(read_dotenv(text, os.environ)), **_lowered(os.environ)}
    return Path(given.get("labwright_home") or Path.home() / ".labwright").expanduser().absolute()


def _lowered(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name.lower(): value for name, value in variables.items() if value}


def has_nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA driver, whatever a process is allowed to see of it."""
    return Path("/dev/nvidiactl").exists()


@functools.cache
def read_pins(lock: Path) -> dict[str, str]:
    """A lock's `name==version` lines; ValueError where a line is anything else."""
    pins = {}
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), start=1):
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        name, separator, version = requirement.partition("==")
        if not separator or not re.fullmatch(r"[A-Za-z0-9.!]+", version):
            raise ValueError(f"{lock}:{number}: not of the form name==version: {line!r}")
        pins[normalised(name)] = version
    return pins


def digest(pins: dict[str, str]) -> str:
    """16 hexadecimal digits that name a set of pins."""
    lines = sorted(f"{name}=={version}" for name, version in pins.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def installed_in(environment: str) -> dict[str, str]:
    """Normalised name to version without local part, of each package installed in a folder."""
    packages = [str(path) for path in Path(environment).glob("lib/python3*/site-packages")]
    return {
        normalised(found.name): found.version.partition("+")[0]
        for found in importlib.metadata.distributions(path=packages)
        if found.name
    }


def normalised(name: str) -> str:
    """A package's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
