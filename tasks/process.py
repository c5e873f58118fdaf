"""Runs a command to its end and leaves no process behind, whatever happens to it or to us.

    command = Command(
        argv=("python", "-P", "-m", "tasks.train.body", "request.json", "out"),
        cwd=out,
        environment=dict(os.environ),
        stdout=logs / "stdout.txt",
        stderr=logs / "stderr.txt",
        timeout_s=3600,
    )
    outcome = await run(command, on_line=lambda stream, line: print(stream, line))

When `run` returns or raises, every process that the command started is gone: after its exit, after
its deadline, and when the awaiting task was cancelled. If this process dies, however it dies, the
same is done within moments by `tasks.supervisor`, which says what it does not cover.

`argv` may name a launcher (`torchrun --nproc-per-node=4 -m …`): the limits hold for all it starts.
`pass_fds` stay open in the supervisor alone, so that a flock on one of them (a GPU, an identity) is
freed by the kernel when the last process is gone, and not a moment earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any, cast

from tasks.errors import EnvironmentMissing, LabwrightError, StoreError
from tasks.tail import LineTail

FOLLOW_INTERVAL_S = 0.1

OnLine = Callable[[str, str], None]  # ("stdout" or "stderr", text), called in the event loop

# A bare interpreter (no site, no user's PYTHON* variables) that finds our package behind the
# standard library.
_SUPERVISOR = (
    "import sys; sys.path.append(sys.argv.pop(1)); from tasks.supervisor import main; main()"
)
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]


class ProcessEnd(Enum):
    """Why a command ended."""

    EXITED = "exited"  # by itself; see the exit code
    SIGNALED = "signaled"  # by a signal that was not ours, or somebody stopped its supervisor
    TIMED_OUT = "timed_out"  # its deadline passed
    OUT_OF_MEMORY = "out_of_memory"  # over its own limit, or killed by the kernel for memory


@dataclass(frozen=True)
class Command:
    """What to run, where its output goes, and its limits."""

    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = field(repr=False)  # all of it: nothing is added to it
    stdout: Path  # created or emptied; the same path as `stderr` mixes both
    stderr: Path
    timeout_s: float | None = None
    grace_s: float = 5.0  # between SIGTERM and SIGKILL
    memory_limit_bytes: int | None = None  # of all its processes together, as resident memory
    log_limit_bytes: int = 256 << 20  # per stream; the end is kept, and a line says what is missing


@dataclass(frozen=True)
class Outcome:
    """How a command ended. Exactly one of `exit_code` and `signal` is there."""

    end: ProcessEnd
    exit_code: int | None
    signal: int | None
    duration_s: float
    peak_memory_bytes: int  # resident, of the largest process; of all together where a limit is set
    num_strays: int  # processes that the command left running, and that were ended


class SupervisorLost(LabwrightError):
    """Somebody killed the supervisor; the command was ended, and how it went is unknown."""


async def run(
    command: Command, on_line: OnLine | None = None, pass_fds: Sequence[int] = ()
) -> Outcome:
    """Run a command to its end; `on_line` sees its output while it runs.

    Cancelling the awaiting task ends every descendant (SIGTERM, `grace_s`, SIGKILL) before the
    CancelledError goes on; so does an exception in `on_line`.

    Raises EnvironmentMissing if the program cannot be started, StoreError if a log file cannot be
    written, SupervisorLost if somebody killed the supervisor.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_log_file(path)) for path in (command.stdout, command.stderr)]
        tails = []
        if on_line is not None:
            streams = {command.stderr: "stderr", command.stdout: "stdout"}
            tails = [
                stack.enter_context(LineTail(path, functools.partial(on_line, stream)))
                for path, stream in streams.items()
            ]
        report = await _supervised(command, files, pass_fds, tails)
        for tail in tails:
            tail.finish()
    return _outcome(command, report)


async def _supervised(
    command: Command, files: Sequence[int], pass_fds: Sequence[int], tails: Sequence[LineTail]
) -> bytes:
    """Start the supervisor, follow the logs until it is gone, return what it reported."""
    process = _start(command, files, pass_fds)
    lifeline = cast("IO[bytes]", process.stdin)
    with process, _everything_from(cast("IO[bytes]", process.stdout)) as report:
        try:
            while not report.done():
                await asyncio.wait({report}, timeout=FOLLOW_INTERVAL_S if tails else None)
                for tail in tails:
                    tail.advance()
        finally:
            lifeline.close()  # the lifeline: whatever still runs is ended now
            await _outlast(report)
        return report.result()


def _start(
    command: Command, files: Sequence[int], pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    limits = (
        command.timeout_s,
        command.grace_s,
        command.memory_limit_bytes,
        command.log_limit_bytes,
    )
    numbers = (*files, os.getpid(), *("inf" if limit is None else limit for limit in limits))
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SUPERVISOR, str(_PACKAGE_ROOT)]
            + [str(number) for number in numbers]
            + [str(argument) for argument in command.argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=files[1],
            cwd=command.cwd,
            env=command.environment,
            pass_fds=(*files, *pass_fds),
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentMissing(f"cannot start {command.argv[0]}: {error}") from error


@contextlib.contextmanager
def _everything_from(pipe: IO[bytes]) -> Iterator[asyncio.Future[bytes]]:
    """A future of all bytes that come out of a pipe until its end. No thread, no task."""
    loop = asyncio.get_running_loop()
    everything = loop.create_future()
    chunks = []

    def read() -> None:
        chunk = os.read(pipe.fileno(), 4096)
        chunks.append(chunk)
        if not chunk:
            loop.remove_reader(pipe.fileno())
            if not everything.done():
                everything.set_result(b"".join(chunks))

    loop.add_reader(pipe.fileno(), read)
    try:
        yield everything
    finally:
        loop.remove_reader(pipe.fileno())


async def _outlast(future: asyncio.Future[bytes]) -> None:
    """Wait for it however often somebody cancels us meanwhile; that is passed on afterwards."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _outcome(command: Command, report: bytes) -> Outcome:
    try:
        told: dict[str, Any] = json.loads(report)
    except ValueError as error:
        raise SupervisorLost(
            f"the supervisor of {command.argv[0]} was killed; so was everything that it had started"
            f" (anything it could still say is at the end of {command.stderr})"
        ) from error
    if "errno" in told:
        raise EnvironmentMissing(f"cannot start {command.argv[0]}: {os.strerror(told['errno'])}")
    code = told["code"]
    if told["end"] == "stopped":
        end, code = ProcessEnd.SIGNALED, min(code, -signal.SIGTERM)
    elif told["end"] == "exited" and code < 0:
        end = ProcessEnd.SIGNALED
    else:
        end = ProcessEnd(told["end"])
    return Outcome(
        end=end,
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        duration_s=told["duration_s"],
        peak_memory_bytes=told["peak_memory_bytes"],
        num_strays=told["num_strays"],
    )


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[int]:
    """A log file, emptied. Appending, so that two streams can share one.

    The owner's alone: what a command prints is scrubbed of secrets only once it has ended.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError as error:
        raise StoreError(f"cannot write the log {path}: {error.strerror}") from error
    try:
        yield file
    finally:
        os.close(file)
