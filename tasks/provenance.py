"""Where a result came from: code, versions, machine, time. Kept in every record; holds no secret.

`labwright show` prints it. It never enters an identity: two machines that compute the same thing
give one record, which says which of them did.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.artifacts import file_digest
from tasks.environments import core_lock_digest, installed_version
from tasks.gpus import Gpu
from tasks.processor import cpu_model
from tasks.scrubbing import Scrubber, own_secrets, scrub
from tasks.settings import settings

MAX_DIFF_CHARACTERS = 65_536
MAX_UNTRACKED_NAMES = 100
MAX_UNTRACKED_BYTES = 64 << 20  # read for their digest; files beyond count by name and size
GIT_TIMEOUT_S = 10.0


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments],
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, uncommitted diff and untracked files of the checkout around a folder.

    None outside of one. Untracked is what git neither knows nor ignores, except what Python and
    labwright write themselves.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or ""
    untracked = _untracked(folder)
    state: dict[str, Any] = {"commit": commit.strip(), "is_dirty": bool(diff or untracked)}
    if diff:
        state["diff_sha256"] = hashlib.sha256(diff.encode()).hexdigest()
        state["diff"] = scrub(diff)[:MAX_DIFF_CHARACTERS]
        state["diff_is_cut"] = len(diff) > MAX_DIFF_CHARACTERS
    if untracked:
        state["untracked_sha256"] = _digest_of(untracked)
        state["num_untracked"] = len(untracked)
        state["untracked"] = scrub(sorted(untracked)[:MAX_UNTRACKED_NAMES])
    return state


def changes_digest(state: Mapping[str, Any]) -> str:
    """64 hexadecimal digits for what is not committed of a `git_state`; empty where all is."""
    digests = [state[key] for key in ("diff_sha256", "untracked_sha256") if key in state]
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _untracked(folder: Path) -> dict[str, Path]:
    """Files by their name in the checkout."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return {}
    root, home = Path(top.removesuffix("\n")), settings().home.resolve()
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z") or ""
    found = {name: root / name for name in listed.split("\0") if name}
    return {
        name: path
        for name, path in found.items()
        if "__pycache__" not in path.parts and not path.is_relative_to(home)
    }


def _digest_of(files: Mapping[str, Path]) -> str:
    """sha256 over names, sizes and contents; what cannot be read counts by its name."""
    digest, left = hashlib.sha256(), MAX_UNTRACKED_BYTES
    for name, path in sorted(files.items()):
        content = ""
        with contextlib.suppress(OSError):
            status = path.lstat()
            content = f"{status.st_size} bytes"
            if stat.S_ISREG(status.st_mode) and status.st_size <= left:
                left -= status.st_size
                content = file_digest(path)
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()


def code_state() -> dict[str, Any]:
    """The code that is about to run: ours, and that of the folder where the user works."""
    return {"labwright": git_state(Path(__file__).parent), "project": git_state(Path.cwd())}


@functools.cache
def hardware() -> dict[str, Any]:
    """What this machine is made of, as far as it bears on numbers and speed."""
    return {
        "cpu_model": cpu_model(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "architecture": platform.machine(),
        "kernel": platform.release(),
    }


def provenance(
    *,
    code: Mapping[str, Any],
    versions: Mapping[str, str],
    started: datetime,
    duration_s: float,
    peak_memory_bytes: int | None,
    gpus: Sequence[Gpu] = (),
    seeds: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything about how a result came to be that is not its spec.

    `code` is a `code_state()` from before; `seeds` repeats the spec's seeds, so that a reader need
    not look for them.
    """
    scrubber = Scrubber(own_secrets())
    machine = hardware() | {"gpu_models": [gpu.name for gpu in gpus]}
    scrubbed: dict[str, Any] = scrubber.value(
        {
            "argv": scrubber.command_line(sys.argv),
            **code,
            "python": platform.python_version(),
            "versions": {"labwright": installed_version("labwright"), **versions},
            "core_lock": core_lock_digest(),
            "hardware": machine | {"fingerprint": _fingerprint(machine)},
            "host": socket.gethostname(),
            "environment": settings().environment.value,
            "gpus": [gpu.uuid for gpu in gpus],
            "seeds": dict(seeds or {}),
            "started": started.astimezone(UTC).isoformat(timespec="seconds"),
            "duration_s": round(duration_s, 3),
            "peak_memory_bytes": peak_memory_bytes,
        }
    )
    return scrubbed


def _fingerprint(machine: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that are equal for machines made of the same parts."""
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
