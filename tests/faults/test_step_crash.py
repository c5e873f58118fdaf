"""A caller that is killed at any moment of a step leaves the old state or the new one.

The caller runs under a shim that kills it at its n-th change of the home, for every n; its body is
a process of its own, which dies with it.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tasks.errors import Corrupted
from tasks.step import Computed
from tasks.store import open_store
from tests.fakes.crash_shim import CrashShim, in_fork
from tests.fakes.steps import ToySpec, placed, starts, toy
from tests.fakes.toy_spec import ToyResult

SPEC = ToySpec(seed=7)
MAX_OPERATIONS = 400
NUM_SAMPLED = 16


def compute(folder: Path) -> Computed[ToyResult]:
    return asyncio.run(toy.compute(SPEC, placed(folder)))


def count_operations(folder: Path, home: Path) -> int:
    """Of a step that nobody disturbs."""

    def compute_and_tell() -> None:
        shim = CrashShim(home).install()
        compute(folder)
        (folder / "operations").write_text(str(len(shim.operations)))

    assert in_fork(compute_and_tell) == 0
    return int((folder / "operations").read_text())


def is_damaged(home: Path) -> bool:
    """Whether what a reader finds is anything but nothing or the whole truth."""
    store = open_store(home)
    try:
        record = store.read_record("toy", toy.identity(SPEC, store))
        for ref in record.artifacts if record else ():
            store.verify(ref)
    except Corrupted:
        return True
    return False


def kill_and_complete(
    folder: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch, expected: ToyResult
) -> bool:
    """One death and the run after it; whether the first had finished its step when it died."""
    home = folder / "home"
    home.mkdir(parents=True)
    monkeypatch.setenv("LABWRIGHT_HOME", str(home))

    def compute_and_die() -> None:
        CrashShim(home, kill_at=kill_at).install()
        compute(folder)

    assert in_fork(compute_and_die) == -signal.SIGKILL
    assert not is_damaged(home), f"killed at operation {kill_at}"
    was_finished = toy.lookup(SPEC) is not None
    started_before = starts(folder)
    again = compute(folder)
    assert again.result == expected
    assert again.is_cached == was_finished, "a finished step is not run again"
    assert starts(folder) == started_before + (not was_finished)
    assert list((home / "staging").iterdir()) == [], "what the killed one left is cleared"
    assert compute(folder).is_cached
    return was_finished


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyResult:
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path / "undisturbed"))
    return compute(tmp_path).result


def test_killed_at_moments_all_over_a_step_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: ToyResult
) -> None:
    try_every(tmp_path, monkeypatch, expected, NUM_SAMPLED)


@pytest.mark.long
def test_killed_at_every_moment_of_a_step_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: ToyResult
) -> None:
    try_every(tmp_path, monkeypatch, expected, MAX_OPERATIONS)


def try_every(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: ToyResult, num_kills: int
) -> None:
    """Spread over all operations; the last few, around the commit of the record, always."""
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path / "counted" / "home"))
    (tmp_path / "counted" / "home").mkdir(parents=True)
    num_operations = count_operations(tmp_path / "counted", tmp_path / "counted" / "home")
    assert 30 < num_operations < MAX_OPERATIONS
    stride = max(1, num_operations // num_kills)
    moments = sorted(
        {*range(1, num_operations, stride), *range(num_operations - 4, num_operations)}
    )
    finished = [
        kill_and_complete(tmp_path / str(moment), moment, monkeypatch, expected)
        for moment in moments
    ]
    print(f"killed at {len(moments)} of {num_operations} operations, {sum(finished)} after the end")
    assert not finished[0]
    assert finished[-1]
    assert finished == sorted(finished), "once finished, always finished"
