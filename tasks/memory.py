"""How much memory processes hold, and whether the kernel killed one for it. Linux only.

resident_bytes(pids)    # microseconds a process; counts shared pages once for each sharer
proportional_bytes(pids)    # milliseconds a process; counts each page once

before = OomKills()
...
before.explain(exit_code=-9)    # whether a process that ended so was killed for memory
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by the kernel, or as a shell reports it


def resident_bytes(pids: Iterable[int]) -> int:
    """Sum of the resident memory of these processes; those that have ended count nothing."""
    texts = [_read(f"/proc/{pid}/statm") for pid in pids]
    return sum(int(text.split()[1]) * PAGE_BYTES for text in texts if text)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Their resident memory, each page divided by the number of processes that share it."""
    lines = [line for pid in pids for line in _read(f"/proc/{pid}/smaps_rollup").splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class OomKills:
    """How many processes the kernel had killed for memory when this was made."""

    def __init__(self) -> None:
        self.in_group = _count(_group_files())  # this process's control group
        self.on_machine = _count(["/proc/vmstat"])

    def explain(self, exit_code: int) -> bool:
        """Whether a process that ended with this code since then was killed for memory.

        Yes if it failed and our control group lost a process (it or a child that it needed), or if
        it was killed with SIGKILL while the machine lost one. `exit_code` is negative for signals.
        """
        now = OomKills()
        lost_one_of_ours = exit_code != 0 and now.in_group > self.in_group
        return lost_one_of_ours or (exit_code in KILLED and now.on_machine > self.on_machine)


def _group_files() -> list[str]:
    """Where the control group of this process counts, in version 2 and in version 1."""
    files = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(f"/sys/fs/cgroup{path}/memory.events")
        elif "memory" in controllers.split(","):
            files.append(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
    return files


def _count(files: Iterable[str]) -> int:
    lines = [line.split() for path in files for line in _read(path).splitlines()]
    return sum(int(line[1]) for line in lines if line[0] == "oom_kill")


def _read(path: str) -> str:
    """The text of a kernel file; empty where it does not exist, or no longer."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
