"""Whatever ends a run, and whatever the command does against it, no process survives."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tasks.process import Command, ProcessEnd, SupervisorLost, run
from tests.fakes import unruly

MARK = "LABWRIGHT_TEST_MARK"
GRACE_S = 0.3
NUM_ROUNDS = 4  # of each kind of command with each kind of end: 8 * 4 * 4 = 128 in all
NUM_AT_ONCE = 4
POLL_S = 0.05
NOTICED_S = 1.0  # within which a death must be noticed

ROOT = Path(__file__).parents[2]
BARE_PYTHON = (sys.executable, "-I", "-S", "-W", "ignore", "-c")

# A parent that runs one command and can be killed; it is told our root, and the command as JSON.
PARENT = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    sys.path.append(sys.argv.pop(1))
    from tasks.process import Command, run

    told = json.loads(sys.argv[1])
    paths = {name: Path(told.pop(name)) for name in ("cwd", "stdout", "stderr")}
    asyncio.run(run(Command(**told, **paths), pass_fds=[int(fd) for fd in sys.argv[2:]]))
    """
)


class Round:
    """One command with a mark in its environment, by which its processes are found."""

    def __init__(self, folder: Path, kind: str, timeout_s: float | None = None):
        self.folder = folder / uuid.uuid4().hex
        self.folder.mkdir()
        self.mark = uuid.uuid4().hex
        self.ready = self.folder / "ready"
        self.command = Command(
            argv=(sys.executable, "-I", "-S", unruly.__file__, kind, str(self.ready)),
            cwd=self.folder,
            environment={MARK: self.mark},
            stdout=self.folder / "stdout.txt",
            stderr=self.folder / "stderr.txt",
            timeout_s=timeout_s,
            grace_s=GRACE_S,
            log_limit_bytes=1 << 20,
        )

    def parent(self, *pass_fds: int) -> subprocess.Popen[bytes]:
        """Another process that runs this command."""
        told = json.dumps({**vars(self.command)}, default=str)
        return subprocess.Popen(
            [*BARE_PYTHON, PARENT, str(ROOT), told, *map(str, pass_fds)],
            pass_fds=pass_fds,
            stderr=subprocess.DEVNULL,
        )

    def survivors(self) -> list[int]:
        """Living processes that carry the mark, the supervisor among them."""
        wanted = f"{MARK}={self.mark}".encode()
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit()
            and wanted in contents(f"/proc/{name}/environ")
            and contents(f"/proc/{name}/stat").rpartition(b")")[2].split()[:1] != [b"Z"]
        ]

    async def is_ready(self, timeout_s: float = 20.0) -> None:
        await eventually(self.ready.exists, timeout_s)

    async def all_gone(self, timeout_s: float) -> None:
        await eventually(lambda: not self.survivors(), timeout_s)


async def eventually(is_true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def at_most(limit_s: float) -> Iterator[None]:
    """The commands would end by themselves after a minute; waiting for that is no answer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < limit_s


async def some_moment(round_: Round, luck: random.Random) -> None:
    """Half of the time when the tree is complete, else somewhere while it is being made."""
    if luck.random() < 0.5:
        await round_.is_ready()
    else:
        await asyncio.sleep(luck.uniform(0, 0.2))


async def end_by_timeout(folder: Path, kind: str, luck: random.Random) -> None:
    round_ = Round(folder, kind, timeout_s=luck.uniform(0.02, 0.3))
    outcome = await run(round_.command)
    assert outcome.end is ProcessEnd.TIMED_OUT
    assert round_.survivors() == []


async def end_by_cancel(folder: Path, kind: str, luck: random.Random) -> None:
    round_ = Round(folder, kind)
    running = asyncio.create_task(run(round_.command))
    await some_moment(round_, luck)
    running.cancel()
    with at_most(NOTICED_S + GRACE_S + 5), pytest.raises(asyncio.CancelledError):
        await running
    assert round_.survivors() == []


async def end_by_sigkill_of_parent(folder: Path, kind: str, luck: random.Random) -> None:
    await end_by_signal(signal.SIGKILL, folder, kind, luck)


async def end_by_sigterm_of_parent(folder: Path, kind: str, luck: random.Random) -> None:
    await end_by_signal(signal.SIGTERM, folder, kind, luck)


async def end_by_signal(number: int, folder: Path, kind: str, luck: random.Random) -> None:
    round_ = Round(folder, kind)
    with round_.parent() as parent:
        await eventually(lambda: bool(round_.survivors()), 20)
        await some_moment(round_, luck)
        parent.send_signal(number)
    await round_.all_gone(NOTICED_S + GRACE_S + 5)


End = Callable[[Path, str, random.Random], Awaitable[None]]


@pytest.mark.parametrize(
    "end", [end_by_timeout, end_by_cancel, end_by_sigkill_of_parent, end_by_sigterm_of_parent]
)
async def test_nothing_survives_an_end(end: End, tmp_path: Path) -> None:
    luck = random.Random(0)
    slots = asyncio.Semaphore(NUM_AT_ONCE)

    async def one(kind: str) -> None:
        async with slots:
            await end(tmp_path, kind, luck)

    await asyncio.gather(*[one(kind) for kind in unruly.KINDS for _ in range(NUM_ROUNDS)])


async def test_nothing_survives_ctrl_c(tmp_path: Path) -> None:
    round_ = Round(tmp_path, "new_sessions")
    with round_.parent() as parent:
        await round_.is_ready()
        parent.send_signal(signal.SIGINT)
        parent.wait()
        assert round_.survivors() == []  # the parent waited for them


async def test_death_of_the_parent_is_noticed_at_once(tmp_path: Path) -> None:
    round_ = Round(tmp_path, "forks")
    with round_.parent() as parent:
        await round_.is_ready()
        parent.kill()
    await round_.all_gone(NOTICED_S)


async def test_death_of_a_parent_whose_fork_holds_the_lifeline_is_noticed(tmp_path: Path) -> None:
    """As after multiprocessing's fork: the pipe stays open though its owner is dead."""
    round_ = Round(tmp_path, "forks")
    told = json.dumps({**vars(round_.command)}, default=str)
    forking = (
        "import os, threading, time\n"
        "def fork():\n"
        "    time.sleep(0.5)\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "        time.sleep(30)\n"
        "        os._exit(0)\n"
        "threading.Thread(target=fork).start()\n"
    )
    argv = [*BARE_PYTHON, forking + PARENT, str(ROOT), told]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        fork_pid = int(await asyncio.to_thread(parent.stdout.readline))
        try:
            await round_.is_ready()
            parent.kill()
            await round_.all_gone(NOTICED_S)
        finally:
            os.kill(fork_pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["keeper", "supervisor"])
async def test_nothing_survives_a_kill_of_either_guard(victim: str, tmp_path: Path) -> None:
    round_ = Round(tmp_path, "new_sessions")
    running = asyncio.create_task(run(round_.command))
    await round_.is_ready()
    guards = [pid for pid in round_.survivors() if is_guard(pid)]
    keeper = next(pid for pid in guards if parent_of(pid) == os.getpid())
    supervisor = next(pid for pid in guards if parent_of(pid) == keeper)
    with at_most(NOTICED_S + GRACE_S + 5):
        os.kill(keeper if victim == "keeper" else supervisor, signal.SIGKILL)
        if victim == "supervisor":
            with pytest.raises(SupervisorLost, match="so was everything that it had started"):
                await running
        else:
            assert (await running).end is ProcessEnd.SIGNALED
    assert round_.survivors() == []


async def test_the_command_dies_even_if_both_guards_are_killed_at_once(tmp_path: Path) -> None:
    round_ = Round(tmp_path, "ignores_sigterm")
    running = asyncio.create_task(run(round_.command))
    await round_.is_ready()
    body = next(pid for pid in round_.survivors() if not is_guard(pid) and is_guard(parent_of(pid)))
    for pid in [pid for pid in round_.survivors() if is_guard(pid)]:
        os.kill(pid, signal.SIGSTOP)
    for pid in [pid for pid in round_.survivors() if is_guard(pid)]:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(SupervisorLost):
        await running
    await eventually(lambda: body not in round_.survivors(), NOTICED_S)
    for pid in round_.survivors():  # the stated limit: its children are not covered
        os.kill(pid, signal.SIGKILL)


async def test_strays_of_a_command_that_exited_are_ended_and_counted(tmp_path: Path) -> None:
    round_ = Round(tmp_path, "daemon")
    argv = (*round_.command.argv, "then exit")
    outcome = await run(Command(**{**vars(round_.command), "argv": argv}))
    assert (outcome.end, outcome.exit_code, outcome.num_strays) == (ProcessEnd.EXITED, 0, 1)
    assert round_.survivors() == []


async def test_a_lease_outlives_its_claimer_as_long_as_a_process_of_the_command(
    tmp_path: Path,
) -> None:
    """A GPU must not be handed on while what used it is still being ended."""
    round_ = Round(tmp_path, "ignores_sigterm")
    lease = tmp_path / "lease"
    with lease.open("w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        with round_.parent(mine.fileno()) as parent:
            await round_.is_ready()
            parent.kill()

    def is_free() -> bool:
        with lease.open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    assert not is_free()
    await eventually(is_free, GRACE_S + 5)
    assert [pid for pid in round_.survivors() if not is_guard(pid)] == []


def contents(path: str) -> bytes:
    """Of a file of /proc; nothing if its process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def is_guard(pid: int) -> bool:
    """Whether this is a keeper or a supervisor."""
    return b"tasks.supervisor" in contents(f"/proc/{pid}/cmdline")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
