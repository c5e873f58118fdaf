"""Who gets which GPU: whole, in turn, and freed by the kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tasks.errors import EnvironmentMissing
from tasks.gpus import Gpu, claim_gpus, list_gpus, parse_gpus, visible_devices, visible_gpus
from tests.fakes.gpus import fake_gpus

FOUR = fake_gpus(4)()

# Another process: claims GPUs of a fake host, says so, and sleeps.
CLAIMER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from tasks.gpus import claim_gpus
    from tests.fakes.gpus import fake_gpus

    async def main():
        async with claim_gpus(int(sys.argv[2]), Path(sys.argv[1]), fake_gpus(int(sys.argv[3]))):
            print("claimed", flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
    """
)


def claimer(home: Path, num_gpus: int, num_there: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMER, str(home), str(num_gpus), str(num_there)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def claim_and_note(
    home: Path, num_gpus: int, num_there: int, notes: list[str], name: str, hold_s: float = 0.0
) -> None:
    async with claim_gpus(num_gpus, home, fake_gpus(num_there)):
        notes.append(name)
        await asyncio.sleep(hold_s)


# -- claims -----------------------------------------------------------------------------


async def test_a_gpu_has_one_owner_at_a_time(tmp_path: Path) -> None:
    owners: dict[str, int] = {}

    async def own_one_for_a_moment() -> None:
        async with claim_gpus(1, tmp_path, fake_gpus(2)) as (gpu,):
            owners[gpu.uuid] = owners.get(gpu.uuid, 0) + 1
            assert owners[gpu.uuid] == 1
            await asyncio.sleep(0.05)
            owners[gpu.uuid] -= 1

    await asyncio.gather(*[own_one_for_a_moment() for _ in range(8)])
    assert set(owners.values()) == {0}


async def test_no_gpu_is_claimed_for_none(tmp_path: Path) -> None:
    async with claim_gpus(0, tmp_path, fake_gpus(0)) as gpus:
        assert gpus == ()
    assert list(tmp_path.iterdir()) == []


async def test_a_claim_of_many_is_not_starved_by_claims_of_one(tmp_path: Path) -> None:
    notes: list[str] = []
    tasks = []
    for name, num_gpus in [("one", 1), ("both", 2), ("late", 1), ("later", 1)]:
        claim = claim_and_note(tmp_path, num_gpus, 2, notes, name, hold_s=0.3)
        tasks.append(asyncio.create_task(claim))
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    assert notes == ["one", "both", "late", "later"]


async def test_asking_for_more_than_there_is_fails_in_words(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=r"3 GPUs are asked for.* has 2 \(0: Fake H200"):
        async with claim_gpus(3, tmp_path, fake_gpus(2)):
            pass


async def test_a_claim_that_is_given_up_frees_its_place(tmp_path: Path) -> None:
    notes: list[str] = []
    async with claim_gpus(1, tmp_path, fake_gpus(1)):
        impatient = asyncio.create_task(claim_and_note(tmp_path, 1, 1, notes, "impatient"))
        await asyncio.sleep(0.1)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
    await asyncio.wait_for(claim_and_note(tmp_path, 1, 1, notes, "next"), 5)
    assert notes == ["next"]
    assert list((tmp_path / "gpus" / "queue").iterdir()) == []


async def test_a_killed_owner_and_a_killed_waiter_free_their_places(tmp_path: Path) -> None:
    with claimer(tmp_path, 1, 1) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "claimed\n"
        with claimer(tmp_path, 1, 1) as waiter:
            while len(list((tmp_path / "gpus" / "queue").glob("[0-9]*"))) < 1:
                await asyncio.sleep(0.02)
            notes: list[str] = []
            mine = asyncio.create_task(claim_and_note(tmp_path, 1, 1, notes, "mine"))
            await asyncio.sleep(0.3)
            waiter.send_signal(signal.SIGKILL)
        assert notes == []
        owner.send_signal(signal.SIGKILL)
    await asyncio.wait_for(mine, 5)
    assert notes == ["mine"]


async def test_a_lease_is_held_while_a_copy_of_it_is_open(tmp_path: Path) -> None:
    """As in the supervisor, when the process that claimed the GPU is dead."""
    async with claim_gpus(1, tmp_path, fake_gpus(1)) as (gpu,):
        copy = os.dup(gpu.lease_fd)
    notes: list[str] = []
    waiting = asyncio.create_task(claim_and_note(tmp_path, 1, 1, notes, "next"))
    await asyncio.sleep(0.5)
    assert notes == []
    os.close(copy)
    await asyncio.wait_for(waiting, 5)


# -- what there is ----------------------------------------------------------------------


def test_the_drivers_answer_is_read() -> None:
    answer = (
        "Notice: something\n0, GPU-5f3c, NVIDIA H200, 143771\n1, GPU-77aa, NVIDIA GB10, [N/A]\n"
    )
    assert parse_gpus(answer) == (
        Gpu(0, "GPU-5f3c", "NVIDIA H200", 143_771),
        Gpu(1, "GPU-77aa", "NVIDIA GB10", None),
    )


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("2", [2]),
        ("3,1", [3, 1]),
        ("1,1", [1]),
        (" 0 , 2 ", [0, 2]),
        ("0,9,1", [0]),
        ("GPU-00000002", [2]),
        ("GPU-0000000", []),
        (f"{FOUR[3].uuid},0", [3, 0]),
        ("NoDevFiles", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(
    visible: str | None, indices: list[int]
) -> None:
    assert [gpu.index for gpu in visible_gpus(FOUR, visible)] == indices


def test_a_body_sees_its_gpus_alone_and_in_the_drivers_order() -> None:
    assert visible_devices(FOUR[1:3]) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "1,2",
    }
    assert visible_devices(())["CUDA_VISIBLE_DEVICES"] == ""


def test_no_driver_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus() == ()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '0, GPU-a, NVIDIA X, 10'; echo '1, GPU-b, NVIDIA X, 10'", [1]),
        ("echo 'No devices were found'; exit 6", []),
    ],
)
def test_the_driver_is_asked_and_the_environment_respected(
    script: str, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(tmp_path, script, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in list_gpus()] == expected


def test_a_driver_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_driver(tmp_path, "echo 'Driver/library version mismatch' >&2; exit 18", monkeypatch)
    with pytest.raises(EnvironmentMissing, match="Driver/library version mismatch"):
        list_gpus()


def install_driver(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
