"""Where a result came from: code, versions, machine, time. Kept in every record; holds no secret.

`labwright show` prints it. It never enters an identity: two machines that compute the same thing
give one record, which says which of them did.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.environments import core_lock_digest, installed_version
from tasks.gpus import Gpu
from tasks.scrubbing import Scrubber, own_secrets, scrub
from tasks.settings import settings

MAX_DIFF_CHARACTERS = 65_536
GIT_TIMEOUT_S = 10.0


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and uncommitted diff of the checkout around a folder; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or ""
    state: dict[str, Any] = {"commit": commit.strip(), "is_dirty": bool(diff)}
    if diff:
        state["diff_sha256"] = hashlib.sha256(diff.encode()).hexdigest()
        state["diff"] = scrub(diff)[:MAX_DIFF_CHARACTERS]
        state["diff_is_cut"] = len(diff) > MAX_DIFF_CHARACTERS
    return state


def code_state() -> dict[str, Any]:
    """The code that is about to run: ours, and that of the folder where the user works."""
    return {"labwright": git_state(Path(__file__).parent), "project": git_state(Path.cwd())}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@functools.cache
def hardware() -> dict[str, Any]:
    """What this machine is made of, as far as it bears on numbers and speed."""
    return {
        "cpu_model": _cpu_model(),
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
