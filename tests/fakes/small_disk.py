"""Prefect's real server on a disk of its own that can be filled: a tmpfs that only it sees.

with server_on_small_disk(tmp_path / "disk", free_port()) as server:
    ...                     # server.api_url answers
    server.fill_disk()      # every write of its database fails: "database or disk is full"
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE_MIB = 24
NUM_REFUSED = 5  # writes in a row, until the disk counts as full
START_LIMIT_S = 120.0
MOUNT_AND_SERVE = """
mount -t tmpfs -o size=%dm none "$1" && cd "$1" && exec "$2" -P -m flows.server.process "$1" "$3"
"""


@dataclass(frozen=True)
class SmallDiskServer:
    """A server in a mount namespace of its own."""

    process: subprocess.Popen[bytes]
    disk: Path
    port: int

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def fill_disk(self) -> None:
        """Leave not one free byte, and no room in what the database holds already."""
        inside = Path(f"/proc/{self.process.pid}/root") / self.disk.relative_to("/")
        with (inside / "ballast").open("ab", buffering=0) as ballast:
            for chunk in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(chunk)) == chunk:
                        pass
        num_refused = 0
        while num_refused < NUM_REFUSED:
            num_refused = 0 if self._takes_a_row() else num_refused + 1

    def _takes_a_row(self) -> bool:
        request = urllib.request.Request(  # noqa: S310
            f"{self.api_url}/flows/",
            json.dumps({"name": secrets.token_hex()}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            assert error.code >= 500  # noqa: PT017
            return False

    def is_up(self) -> bool:
        assert self.process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{self.api_url}/health", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


def can_mount() -> bool:
    """Whether this user may mount a tmpfs in a namespace of its own."""
    script = "mount -t tmpfs none /mnt"
    try:
        done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@contextlib.contextmanager
def server_on_small_disk(disk: Path, port: int) -> Iterator[SmallDiskServer]:
    """Started, answering, and stopped at the end."""
    disk.mkdir()
    script = MOUNT_AND_SERVE % SIZE_MIB
    process = subprocess.Popen(
        ["unshare", "-Urm", "sh", "-c", script, "sh", str(disk), sys.executable, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ
        | {
            "LABWRIGHT_HOME": str(disk),
            "PREFECT_HOME": str(disk / "prefect"),
            "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///prefect.db",
        },
    )
    server = SmallDiskServer(process, disk, port)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not server.is_up():
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.2)
        yield server
    finally:
        process.kill()
        process.wait()
