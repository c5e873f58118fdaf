"""The GPUs of this host, and who owns which: one lease per GPU, freed by the kernel.

    async with claim_gpus(2, home) as gpus:
        environment = os.environ | visible_devices(gpus)
        fds = [gpu.lease_fd for gpu in gpus]
        await run(Command(..., environment=environment), pass_fds=fds)

A lease is a flock on `<home>/gpus/<uuid>.lease`. Passed to `tasks.process.run`, it is held until
the last process of the body is gone, also when the process that claimed it died before. Claims are
served in the order in which they came, each all at once or not at all, so that one that wants many
GPUs is not starved by those that want few. Who shares GPUs on a host shares a home on a local disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import EnvironmentMissing
from tasks.flock import try_lock

POLL_S = 0.2
QUERY_TIMEOUT_S = 60.0  # a driver that has to be loaded first takes many seconds
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver names it."""

    index: int  # in the order of the PCI bus, as nvidia-smi counts
    uuid: str
    name: str
    memory_mib: int | None  # None where it is the machine's own memory


@dataclass(frozen=True)
class ClaimedGpu(Gpu):
    """A GPU that is ours while `lease_fd`, or a copy of it in another process, is open."""

    lease_fd: int


ListGpus = Callable[[], tuple[Gpu, ...]]


def list_gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use; none where there is no NVIDIA driver.

    Asks nvidia-smi (tens of milliseconds) and respects CUDA_VISIBLE_DEVICES. Slices of a GPU (MIG)
    are not told apart: a lease is for a whole one. Raises EnvironmentMissing if a driver is
    installed and does not answer.
    """
    if shutil.which(QUERY[0]) is None:
        return ()
    try:
        answer = subprocess.run(
            QUERY, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=True
        )
    except subprocess.CalledProcessError as error:
        if "no devices were found" in (error.stdout + error.stderr).lower():
            return ()
        said = (error.stderr or error.stdout).strip()
        raise EnvironmentMissing(f"nvidia-smi does not answer: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentMissing(
            f"nvidia-smi did not answer within {QUERY_TIMEOUT_S:g} s"
        ) from error
    return visible_gpus(parse_gpus(answer.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(csv_text: str) -> tuple[Gpu, ...]:
    """Read nvidia-smi's answer: `index, uuid, name, MiB` a line; other lines are notices."""
    rows = [[cell.strip() for cell in line.split(",")] for line in csv_text.splitlines()]
    return tuple(
        Gpu(int(row[0]), row[1], row[2], int(row[3]) if row[3].isdigit() else None)
        for row in rows
        if len(row) == 4 and row[0].isdigit()
    )


def visible_gpus(gpus: Iterable[Gpu], visible_devices: str | None) -> tuple[Gpu, ...]:
    """Those that a CUDA_VISIBLE_DEVICES lets through, in its order; None lets all through.

    As CUDA reads it: indices or beginnings of UUIDs; the first that names no GPU ends the list.
    """
    gpus = tuple(gpus)
    if visible_devices is None:
        return gpus
    seen: list[Gpu] = []
    for name in (part.strip() for part in visible_devices.split(",")):
        named = [gpu for gpu in gpus if name == str(gpu.index) or _is_uuid(name, gpu)]
        if len(named) != 1:
            break
        seen += [gpu for gpu in named if gpu not in seen]
    return tuple(seen)


def _is_uuid(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.uuid.startswith(name)


def visible_devices(gpus: Iterable[Gpu]) -> Mapping[str, str]:
    """The environment variables that show a body exactly these GPUs, and none if there are none."""
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # CUDA's own order is another than nvidia-smi's
        "CUDA_VISIBLE_DEVICES": ",".join(str(gpu.index) for gpu in gpus),
    }


@asynccontextmanager
async def claim_gpus(
    num_gpus: int,
    home: Path,
    list_gpus: ListGpus = list_gpus,
    on_wait: Callable[[str], None] | None = None,
) -> AsyncIterator[tuple[ClaimedGpu, ...]]:
    """Own `num_gpus` GPUs, waiting for one's turn and until enough are free.

    `on_wait` is told what there is to wait for, if anything. Raises EnvironmentMissing if this host
    does not have so many. On leaving, this process's copies of the leases are closed.
    """
    if num_gpus == 0:
        yield ()
        return
    gpus = await asyncio.to_thread(list_gpus)
    if num_gpus > len(gpus):
        raise EnvironmentMissing(_too_few(num_gpus, gpus))
    folder = home / "gpus"

    async def wait() -> None:
        nonlocal on_wait
        if on_wait is not None:
            on_wait(f"{num_gpus} of {len(gpus)} GPUs to be free")
            on_wait = None
        await asyncio.sleep(POLL_S)

    with ExitStack() as leases:
        async with _turn(folder / "queue", wait):
            while not (claimed := _try_claim(num_gpus, gpus, folder, leases)):
                await wait()
        yield claimed


def _too_few(num_gpus: int, gpus: tuple[Gpu, ...]) -> str:
    there = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in gpus) or "none"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    note = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES={hidden} may hide some"
    return (
        f"{num_gpus} GPUs are asked for, and this machine has {len(gpus)} ({there}){note}; "
        "lower `placement.gpus`, or run on a machine that has them"
    )


def _try_claim(
    num_gpus: int, gpus: tuple[Gpu, ...], folder: Path, leases: ExitStack
) -> tuple[ClaimedGpu, ...]:
    """All leases at once, or none: an empty tuple."""
    with ExitStack() as attempt:
        claimed = []
        for gpu in gpus:
            fd = os.open(folder / f"{gpu.uuid}.lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            attempt.callback(os.close, fd)
            if try_lock(fd):
                claimed.append(ClaimedGpu(gpu.index, gpu.uuid, gpu.name, gpu.memory_mib, fd))
            if len(claimed) == num_gpus:
                leases.push(attempt.pop_all())
                return tuple(claimed)
    return ()


@asynccontextmanager
async def _turn(queue: Path, wait: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """First come, first served, between processes; whoever died is passed over.

    Everybody who waits holds a lock on a ticket of his own, named by the time he came. Whose ticket
    is the oldest that is still locked is at the head.
    """
    queue.mkdir(parents=True, exist_ok=True)
    ticket = queue / f"{time.monotonic_ns():020d}-{os.getpid()}-{os.urandom(4).hex()}"
    hidden = ticket.with_name(f".{ticket.name}")  # nobody may see a ticket that is not locked yet
    fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try_lock(fd)
        hidden.rename(ticket)
        while not _is_at_head(ticket):
            await wait()
        yield
    finally:
        ticket.unlink(missing_ok=True)
        os.close(fd)


def _is_at_head(ticket: Path) -> bool:
    for other in sorted(path for path in ticket.parent.iterdir() if path.name[0] != "."):
        if other == ticket:
            return True
        if _is_held(other):
            return False
        other.unlink(missing_ok=True)
    return True


def _is_held(ticket: Path) -> bool:
    try:
        fd = os.open(ticket, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd)
    finally:
        os.close(fd)
