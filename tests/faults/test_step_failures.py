"""What goes wrong in a body ends in a typed error, in words, that says where the logs are."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.body import with_fields
from tasks.command import CommandSpec, command
from tasks.errors import LabwrightError, StepFailed, StepTimedOut, StoreError
from tasks.observer import observing
from tasks.spec import Placement
from tests.fakes.steps import CountSpec, Manner, ToySpec, Witness, count, placed, starts, toy

WORDS = {
    Manner.EXITS_3_IN_SILENCE: "exited with status 3",
    Manner.EXITS_1_WITH_WORDS: "the moon is in the wrong phase",
    Manner.SEGFAULTS: "was killed by SIGSEGV",
    Manner.LEAVES_NOTHING: "it exited with 0 but left no result",
    Manner.LEAVES_GARBAGE: r"result\.json cannot be read",
    Manner.LEAVES_TORN_JSON: r"result\.json cannot be read",
    Manner.LEAVES_DEEP_JSON: r"result\.json cannot be read",
    Manner.LEAVES_A_FOLDER: r"result\.json is not a file",
    Manner.LEAVES_NAN: r"result\.json cannot be read: it holds NaN, which is not a number",
    Manner.LEAVES_ANOTHER_TYPE: r"its result is unusable: .*ToyResult\n(.|\n)*valid number",
    Manner.LISTS_GARBAGE: r"artifacts\.json cannot be read",
    Manner.LISTS_A_LIST: r"artifacts\.json is not a mapping",
    Manner.LISTS_A_MISSING_FILE: "it named a file that it did not write: nowhere",
    Manner.LISTS_AN_OUTSIDE_FILE: "it named a file outside of its folder",
    Manner.NAMES_WHAT_IT_DOES_NOT_LIST: r"it names numbers\.bin, which the body left out",
    Manner.NAMES_A_WRONG_DIGEST: r"numbers\.bin is not what its result says it is",
}


async def failure_of(step: Any, spec: Any, placement: Placement | None = None) -> StepFailed:
    """The error; whatever it is, nothing may be served of it later, and its logs must exist."""
    with pytest.raises(StepFailed) as caught:
        await step.compute(spec, placement)
    error = caught.value
    assert error.logs is not None
    assert error.logs.is_dir()
    assert f"step '{step.name}' failed: " in str(error)
    assert f"logs: {error.logs}" in str(error)
    assert step.lookup(spec) is None
    return error


@pytest.mark.parametrize("manner", WORDS)
async def test_a_body_without_a_usable_result_fails_in_words(home: Path, manner: Manner) -> None:
    error = await failure_of(toy, ToySpec(manner=manner))
    assert re.search(WORDS[manner], error.reason), error.reason


async def test_the_words_of_an_exception_are_the_reason_and_its_traceback_is_in_the_log(
    home: Path,
) -> None:
    error = await failure_of(count, CountSpec(fails_with="576 is not divisible by 128"))
    assert error.reason == "576 is not divisible by 128"
    assert error.logs is not None
    assert "Traceback" in (error.logs / "stderr.txt").read_text()


async def test_a_bug_in_a_body_is_told_by_its_last_words(home: Path) -> None:
    error = await failure_of(count, CountSpec(fails_with_bug=True))
    assert "list index out of range" in error.reason


async def test_a_script_that_fails_without_a_word_on_stderr_is_told_by_stdout(home: Path) -> None:
    script = ["sh", "-c", "echo loading; echo 'ERROR: no data'; exit 3"]
    error = await failure_of(command, CommandSpec(script=script, inputs={}))
    assert error.reason.splitlines()[-2:] == ["loading", "ERROR: no data"]
    script = ["sh", "-c", "echo fine; echo no >&2; exit 3"]
    error = await failure_of(command, CommandSpec(script=script, inputs={}))
    assert error.reason.splitlines()[-1] == "no"


async def test_nan_in_the_metrics_of_a_body_is_refused_in_words(home: Path) -> None:
    error = await failure_of(count, CountSpec(loss_is_nan=True))
    assert error.reason == "loss became nan at step 1"


async def test_a_deadline_is_named_and_logs_go_to_the_run(home: Path, tmp_path: Path) -> None:
    with observing(Witness(tmp_path / "run")):
        error = await failure_of(toy, ToySpec(manner=Manner.FORKS), placed(home, timeout_s=0.5))
    assert isinstance(error, StepTimedOut)
    assert error.reason == "ran past its deadline of 0.5 s"
    assert error.logs == tmp_path / "run"


async def test_a_memory_limit_is_named(home: Path) -> None:
    error = await failure_of(toy, ToySpec(manner=Manner.ALLOCATES), placed(home, memory_gib=0.1))
    assert error.reason == "was killed because it went over its memory limit of 0.1 GiB"


async def test_a_body_that_prints_garbage_is_not_hurt_by_it(home: Path) -> None:
    witness = Witness()
    with observing(witness):
        computed = await toy.compute(ToySpec(manner=Manner.PRINTS_GARBAGE))
    assert not computed.is_cached
    assert all(isinstance(line, str) for line in witness.lines)
    assert witness.metrics in ([], [{"step": 1}])


async def test_a_failed_step_is_run_again_on_a_clean_table(home: Path) -> None:
    with pytest.raises(StepFailed):
        await toy.compute(ToySpec(), placed(home, timeout_s=0.01))
    staging = next((home / "staging").iterdir())
    for path in ("out/result.json", "out/numbers/one", "logs/old.txt"):
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).write_text("left by the first attempt")
    computed = await toy.compute(ToySpec(), placed(home))
    assert not computed.is_cached
    assert not staging.exists()
    assert (await toy.compute(ToySpec())).is_cached


# -- the disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)):
        pytest.skip("mounting a small disk needs root and the right to mount")
    monkeypatch.setenv("LABWRIGHT_HOME", str(disk / "home"))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def mount(*arguments: str) -> bool:
    return os.geteuid() == 0 and subprocess.run(["mount", *arguments], check=False).returncode == 0


async def test_a_full_disk_fails_the_step_in_words_and_room_lets_it_succeed(
    small_disk: Path,
) -> None:
    spec = ToySpec(num_bytes=1000)
    ballast = small_disk / "ballast"
    fill(ballast)
    with pytest.raises(LabwrightError, match=r"No space left on device"):
        await toy.compute(spec)
    ballast.write_bytes(bytes(ballast.stat().st_size - (40 << 10)))
    with pytest.raises(LabwrightError, match=r"No space left on device"):
        await toy.compute(ToySpec(num_bytes=200_000))
    ballast.unlink()
    assert not (await toy.compute(spec)).is_cached
    assert (await toy.compute(spec)).is_cached


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - it must come


async def test_a_home_that_cannot_be_written_is_told_in_words_and_still_read(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await toy.compute(ToySpec(seed=1))
    assert mount("--bind", str(small_disk), str(small_disk))
    try:
        assert mount("-o", "remount,bind,ro", str(small_disk))
        with pytest.raises(StoreError, match=r"Read-only file system; give yourself access"):
            await toy.compute(ToySpec(seed=2))
        assert (await toy.compute(ToySpec(seed=1))).is_cached
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
async def test_whatever_the_disk_refuses_fails_in_words_and_is_made_good_later(
    home: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """The same without the right to mount: the system call itself fails."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), str(home / "objects"))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises((StepFailed, StoreError), match=os.strerror(number)):
            await toy.compute(ToySpec())
    assert toy.lookup(ToySpec()) is None
    assert not (await toy.compute(ToySpec())).is_cached


async def test_logs_that_cannot_be_copied_cost_a_warning_and_not_the_result(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    witness = Witness(tmp_path / "file" / "logs")
    with observing(witness):
        assert not (await toy.compute(ToySpec())).is_cached
    assert len(witness.warnings) == 1
    assert "could not be copied" in witness.warnings[0]


async def test_an_input_that_vanishes_from_the_store_is_named(home: Path) -> None:
    first = (await toy.compute(ToySpec(seed=1))).result
    shutil.rmtree(home / "objects")
    with pytest.raises(LabwrightError, match=r"folder 'numbers' .* is missing"):
        await toy.compute(ToySpec(seed=1, source=first.folder), placed(home))
    assert starts(home) == 0


def test_a_wrong_input_is_named_by_its_field_and_not_by_its_digest() -> None:
    digest = "f00d" * 16
    spec = {"evaluations": [{"samples": {"digest": digest, "name": "outputs", "size_bytes": 1}}]}
    inputs = {digest: f"/home/views/{digest}"}
    named = "evaluations.0.samples ('outputs')"
    for words in (digest, f"/home/views/{digest}"):
        assert with_fields(f"{words} has no config", spec, inputs) == f"{named} has no config"
