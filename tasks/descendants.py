"""Every process below this one, and how to end them all. Linux, standard library only.

What is found is what /proc shows at one moment, and processes come and go meanwhile: callers loop
until the kernel says that no child is left (`tasks.supervisor` explains why that is a proof).

    descendants()            # {pid: process group}
    send(signal.SIGTERM)     # to all of them
    kill_frozen()            # SIGSTOP to all, then SIGKILL to all
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

NUM_FREEZING_PASSES = 20


def descendants() -> dict[int, int]:
    """pid -> process group of every living descendant of this process."""
    alive = _processes()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in alive.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, int] = {}
    queue = [os.getpid()]
    while queue:
        for pid in children.get(queue.pop(), ()):
            found[pid] = alive[pid][1]
            queue.append(pid)
    return found


def send(number: int) -> int:
    """Signal every descendant; returns how many were found.

    Whole process groups at a time: one call reaches every member, however fast the group forks.
    """
    targets = descendants()
    own_group = os.getpgrp()
    for group in {group for group in targets.values() if group != own_group}:
        signal_if_there(os.killpg, group, number)
    for pid, group in targets.items():
        if group == own_group:
            signal_if_there(os.kill, pid, number)
    return len(targets)


def kill_frozen() -> None:
    """Freeze all descendants before the first is killed, so that none can replace another."""
    num_frozen = -1
    for _ in range(NUM_FREEZING_PASSES):
        num_found = send(signal.SIGSTOP)
        if num_found <= num_frozen:  # nothing was born since the last pass
            break
        num_frozen = num_found
    send(signal.SIGKILL)


def signal_if_there(kill: Callable[[int, int], None], target: int, number: int) -> None:
    """Signal a process or group that may have ended meanwhile, or become another user's."""
    try:
        kill(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _processes() -> dict[int, tuple[int, int]]:
    """pid -> (parent's pid, process group) of everything that /proc shows, zombies left out."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, group = file.read().rpartition(b")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if state != b"Z":
            found[int(name)] = (int(parent), int(group))
    return found
