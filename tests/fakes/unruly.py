"""Programs that are hard to get rid of. A script: `python -I -S unruly.py KIND READY_FILE`.

Each makes its tree of processes, writes READY_FILE, and would then run for a minute.
"""

import os
import signal
import sys
import time
from pathlib import Path

LIFETIME_S = 60.0
MAX_STORM = 150  # processes of the storm, so that a failing test does not take the machine with it


def sleep_on() -> None:
    """Also when signals interrupt it."""
    deadline = time.monotonic() + LIFETIME_S
    while time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(0)


def child(work=sleep_on) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def forks() -> None:
    """Children and grandchildren of the ordinary kind."""
    for _ in range(3):
        child(lambda: (child(), sleep_on()))


def daemon() -> None:
    """The classic double fork: a grandchild that belongs to init, in a session of its own."""

    def middle() -> None:
        os.setsid()
        child()
        os._exit(0)

    os.waitpid(child(middle), 0)


def ignores_sigterm() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child()


def new_sessions() -> None:
    """Grandchildren in sessions of their own that ignore SIGTERM, under a child that exits."""

    def stubborn() -> None:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child()
        sleep_on()

    def middle() -> None:
        for _ in range(2):
            child(stubborn)
        os._exit(0)

    child(middle)


def fork_storm() -> None:
    """Processes that never stop forking, each in a group of its own."""
    count = Path(sys.argv[2] + ".count")
    count.touch()

    def storm() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setpgid(0, 0)
        while True:
            with count.open("ab") as file:
                file.write(b".")
            if count.stat().st_size >= MAX_STORM:
                sleep_on()
            child(storm)
            time.sleep(0.005)

    child(storm)
    time.sleep(0.05)


def respawns() -> None:
    """A watchdog that starts its child again whenever it dies."""

    def watchdog() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        while True:
            os.waitpid(child(), 0)

    child(watchdog)


def stopped() -> None:
    """A child that is stopped, and so does not see SIGTERM."""
    child(lambda: (os.kill(os.getpid(), signal.SIGSTOP), sleep_on()))


def floods() -> None:
    """Writes without end to both streams, so that it sits in a blocking write much of the time."""

    def flood() -> None:
        deadline = time.monotonic() + LIFETIME_S
        while time.monotonic() < deadline:
            os.write(1, b"x" * 65536)
            os.write(2, b"y\n" * 4096)
            time.sleep(0.02)

    child(flood)


KINDS = {
    work.__name__: work
    for work in (
        forks,
        daemon,
        ignores_sigterm,
        new_sessions,
        fork_storm,
        respawns,
        stopped,
        floods,
    )
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
    Path(sys.argv[2]).touch()
    if len(sys.argv) == 3:
        sleep_on()
