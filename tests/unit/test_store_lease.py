"""One holder for each identity, whoever asks, and none after its death."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tasks.store.base import Holder
from tasks.store.lease import acquire
from tasks.store.local import LocalStore

IDENTITY = "7" * 64
NUM_THREADS, NUM_PROCESSES, NUM_TURNS = 8, 4, 5


async def take_turns(store: LocalStore, tally: Path) -> None:
    """Read, wait, write: two at once would lose a count."""
    for _ in range(NUM_TURNS):
        async with store.lease(IDENTITY):
            count = int(tally.read_text())
            await asyncio.sleep(0.001)
            tally.write_text(str(count + 1))


def run_turns(home: Path, tally: Path) -> None:
    asyncio.run(take_turns(LocalStore(home), tally))


def test_threads_event_loops_and_processes_take_turns(tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    tally.write_text("0")
    context = multiprocessing.get_context("fork")
    workers: list[threading.Thread | multiprocessing.process.BaseProcess] = [
        context.Process(target=run_turns, args=(tmp_path, tally)) for _ in range(NUM_PROCESSES)
    ]
    workers += [
        threading.Thread(target=run_turns, args=(tmp_path, tally)) for _ in range(NUM_THREADS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert int(tally.read_text()) == (NUM_THREADS + NUM_PROCESSES) * NUM_TURNS


def hold_forever(home: Path, ready: Connection) -> None:
    async def hold() -> None:
        async with LocalStore(home).lease(IDENTITY):
            ready.send("held")
            await asyncio.sleep(3600)

    asyncio.run(hold())


async def test_killed_holder_frees_its_lease_within_a_second(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    holder = context.Process(target=hold_forever, args=(tmp_path, sender))
    holder.start()
    assert receiver.recv() == "held"
    waiting: list[Holder | None] = []

    async def wait_for_it() -> float:
        async with LocalStore(tmp_path).lease(IDENTITY, waiting.append):
            return time.monotonic()

    waiter = asyncio.create_task(wait_for_it())
    await asyncio.sleep(0.3)
    assert not waiter.done()
    assert [found and found.pid for found in waiting] == [holder.pid], "said once who holds it"
    assert f"process {holder.pid} on " in str(waiting[0])
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    killed = time.monotonic()
    holder.join()
    assert await waiter - killed < 1


async def test_cancelled_waiter_leaves_no_lock_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    num_open = len(os.listdir("/proc/self/fd"))
    async with store.lease(IDENTITY):
        waiter = asyncio.create_task(acquire(tmp_path / "leases" / IDENTITY))
        await asyncio.sleep(0.05)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with asyncio.timeout(5), store.lease(IDENTITY):
        pass
    assert len(os.listdir("/proc/self/fd")) == num_open


async def test_failing_holder_frees_its_lease(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(RuntimeError, match="body"):
        async with store.lease(IDENTITY):
            raise RuntimeError("body")
    async with asyncio.timeout(5), store.lease(IDENTITY):
        pass


async def test_identities_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    async with asyncio.timeout(5), store.lease("1" * 64), store.lease("2" * 64):
        pass


async def test_child_holds_the_lease_only_if_it_was_given_it(tmp_path: Path) -> None:
    """What a supervisor inherits survives its parent; any other child knows nothing of it."""
    store = LocalStore(tmp_path)
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(3600)"]

    async def is_free() -> bool:
        try:
            async with asyncio.timeout(0.3), store.lease(IDENTITY):
                return True
        except TimeoutError:
            return False

    for given in (False, True):
        async with store.lease(IDENTITY) as lease:
            fds = lease.fds if given else ()
            child = subprocess.Popen(sleeper, pass_fds=fds, stdout=subprocess.PIPE)
            assert child.stdout is not None
            child.stdout.readline()
        assert await is_free() is not given
        child.kill()
        child.wait()
        child.stdout.close()
        assert await is_free()
