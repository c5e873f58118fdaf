"""Where a result came from: code, versions, machine, time. Kept in every record; holds no secret.

`labwright show` prints it. It never enters an identity: two machines that compute the same thing
give one record, which says which of them did.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MAX_DIFF_CHARACTERS = 65_536
GIT_TIMEOUT_S = 10.0
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|AUTH", re.I)
URL_WITH_PASSWORD = re.compile(r"(\w+://[^/\s:@]+):[^@\s/]+@")
MIN_SECRET_LENGTH = 6


def scrub(value: Any, environment: Mapping[str, str] | None = None) -> Any:
    """Replace the values of secret-looking variables, and passwords in URLs, by `***`."""
    environment = os.environ if environment is None else environment
    secrets = [
        text
        for name, text in environment.items()
        if SECRET_NAME.search(name) and len(text) >= MIN_SECRET_LENGTH
    ]
    return _scrub(value, sorted(secrets, key=len, reverse=True))


def _scrub(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return URL_WITH_PASSWORD.sub(r"\1:***@", value)
    if isinstance(value, Mapping):
        return {key: _scrub(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrub(item, secrets) for item in value]
    return value


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


@functools.cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and uncommitted diff of the checkout around a folder; None outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(folder, "diff", "HEAD") or ""
    state: dict[str, Any] = {"commit": commit.strip(), "is_dirty": bool(diff)}
    if diff:
        state["diff_sha256"] = hashlib.sha256(diff.encode()).hexdigest()
        state["diff"] = diff[:MAX_DIFF_CHARACTERS]
        state["diff_is_cut"] = len(diff) > MAX_DIFF_CHARACTERS
    return state


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
    versions: Mapping[str, str],
    started: datetime,
    duration_s: float,
    peak_memory_bytes: int | None,
    gpus: tuple[str, ...] = (),
    seeds: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything about how a result came to be that is not its spec.

    `gpus` are UUIDs; `seeds` repeats the spec's seeds, so that a reader need not look for them.
    """
    scrubbed: dict[str, Any] = scrub(
        {
            "argv": sys.argv,
            "labwright": git_state(Path(__file__).parent),
            "project": git_state(Path.cwd()),
            "python": platform.python_version(),
            "versions": dict(versions),
            "hardware": hardware(),
            "host": socket.gethostname(),
            "gpus": list(gpus),
            "seeds": dict(seeds or {}),
            "started": started.astimezone(UTC).isoformat(timespec="seconds"),
            "duration_s": round(duration_s, 3),
            "peak_memory_bytes": peak_memory_bytes,
        }
    )
    return scrubbed
