"""What is known of the embedded server: `server.json`, and whether what it names is still ours.

A pid alone proves nothing after a power cut: a process is ours if it has the pid, started when the
file says, and answers with the token that only it and the file know.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

HOST = "127.0.0.1"
IDENTITY_PATH = "/labwright"  # where the server proves that it is ours
ANSWER_TIMEOUT_S = 5.0


class ServerCondition(StrEnum):
    """What stands behind `server.json`."""

    ABSENT = "absent"  # no file: never started, or ended by itself
    READY = "ready"  # ours, alive, answering
    STARTING = "starting"  # ours, alive, not answering yet
    STALE = "stale"  # the process is gone, or its pid is another's now


@dataclass(frozen=True)
class ServerState:
    """The contents of `server.json`."""

    port: int
    pid: int
    start_ticks: int  # of the process, since boot: with the pid, a name that is never used twice
    token: str

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.port}/api"

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @classmethod
    def of_this_process(cls, port: int) -> ServerState:
        pid = os.getpid()
        start = process_start_ticks(pid)
        assert start is not None, "this process is in /proc"
        return cls(port, pid, start, secrets.token_hex(16))

    def write(self, home: Path) -> None:
        """Atomically, readable by the owner alone."""
        temporary = home / f".server.json.{self.pid}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        temporary.replace(home / "server.json")

    def condition(self) -> ServerCondition:
        """Whether the process lives and answers as ours."""
        if process_start_ticks(self.pid) != self.start_ticks:
            return ServerCondition.STALE
        return ServerCondition.READY if self.answers() else ServerCondition.STARTING

    def age_s(self) -> float:
        """How long ago the process started."""
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
        return uptime_s - self.start_ticks / os.sysconf("SC_CLK_TCK")

    def answers(self) -> bool:
        """Whether the server on the port has our token and is ready."""
        try:
            with urllib.request.urlopen(
                f"http://{HOST}:{self.port}{IDENTITY_PATH}", timeout=ANSWER_TIMEOUT_S
            ) as answer:
                told = json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return False
        return isinstance(told, dict) and told.get("server") == fingerprint(self.token)


def fingerprint(token: str) -> str:
    """What a server shows of its token: enough to compare, nothing to use."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_state(home: Path) -> ServerState | None:
    """The state on disk; None if there is none or it is torn."""
    try:
        return ServerState(**json.loads((home / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def process_start_ticks(pid: int) -> int | None:
    """When a process started (field 22 of /proc/<pid>/stat); None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
