"""What a step promises when all goes well: typed, cached, told of, and the same wherever it ran."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tasks.environments import serve_environment
from tasks.errors import EnvironmentMissing, SpecError
from tasks.observer import observing
from tasks.spec import DeviceKind, Placement
from tasks.step import research_step
from tasks.store import open_store
from tests.fakes.installed import lay_down
from tests.fakes.steps import (
    CountSpec,
    ToySpec,
    Witness,
    count,
    measure,
    notes,
    placed,
    starts,
    toy,
)
from tests.fakes.toy_spec import CountResult


async def test_a_step_is_computed_once_and_answered_from_the_store_after_that(home: Path) -> None:
    first = await toy.compute(ToySpec(seed=1), placed(home))
    second = await toy.compute(ToySpec(seed=1), placed(home))
    other = await toy.compute(ToySpec(seed=2), placed(home))
    assert (first.is_cached, second.is_cached, other.is_cached) == (False, True, False)
    assert second.result == first.result != other.result
    assert second.record == first.record == toy.lookup(ToySpec(seed=1))
    assert starts(home) == 2
    assert not any((home / "staging").iterdir()), "a finished step leaves nothing in its way"


async def test_a_cached_result_is_served_even_if_what_a_killed_attempt_left_cannot_be_cleared(
    home: Path, tmp_path: Path
) -> None:
    first = await toy.compute(ToySpec(seed=1))
    key = first.record.identity
    (home / "staging" / key).mkdir(parents=True)
    (home / "leases" / key).unlink()
    (home / "leases" / key).mkdir()  # the lease cannot be had any more
    witness = Witness(tmp_path / "logs")
    with observing(witness):
        again = await toy.compute(ToySpec(seed=1))
    assert again.is_cached
    assert again.result == first.result
    assert [warning.partition(":")[0] for warning in witness.warnings] == ["cannot take the lease"]


async def test_inputs_count_by_content_and_not_by_place(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("the same")
    (tmp_path / "c.txt").write_text("another")
    results = [
        await toy.compute(ToySpec(source=str(tmp_path / name)), placed(home))  # type: ignore[arg-type]
        for name in ("a.txt", "deep/b.txt", "c.txt")
    ]
    assert [found.is_cached for found in results] == [False, True, False]


async def test_a_result_feeds_the_next_step(home: Path) -> None:
    first = (await toy.compute(ToySpec(seed=1))).result
    second = (await toy.compute(ToySpec(seed=1, source=first.folder))).result
    assert second.read == first.folder.digest
    assert second.folder == first.folder, "equal bytes are kept once"


async def test_placement_and_observers_never_change_the_identity(home: Path) -> None:
    computed = await toy.compute(ToySpec(), placed(home))
    elsewhere = Placement(timeout_s=60, memory_gib=2, environment={"A": "b"}, gpus=0)
    with observing(Witness()):
        again = await toy.compute(ToySpec(), elsewhere)
    assert again.is_cached
    assert again.record.identity == computed.record.identity == toy.identity(ToySpec())


async def test_an_observer_sees_lines_progress_and_a_copy_of_the_logs(
    home: Path, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "run" / "logs")
    with observing(witness):
        computed = await count.compute(CountSpec(num_units=3, unit_s=0.25, loss=1.5))
    assert witness.started_steps == ["count"]
    assert "counting from 0" in witness.lines
    assert [line["step"] for line in witness.metrics][-1] == 3
    assert len(witness.metrics) >= 2, "progress is told while the body runs"
    assert {path.name for path in (tmp_path / "run" / "logs").iterdir()} == {
        "stdout.txt",
        "stderr.txt",
        "metrics.jsonl",
    }
    assert computed.record.logs is not None
    kept = open_store().materialize(computed.record.logs)
    assert "counting from 0" in (kept / "stdout.txt").read_text()


async def test_steps_run_side_by_side(home: Path) -> None:
    await asyncio.gather(
        *[toy.compute(ToySpec(seed=n, sleep_s=0.4), placed(home)) for n in range(3)]
    )
    last_start = max(when for _, _, when in notes(home, "start"))
    first_end = min(when for _, _, when in notes(home, "end"))
    assert last_start < first_end


async def test_another_version_than_the_locked_one_is_refused_in_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.step.installed_version", lambda *_: "0.0.1")
    with pytest.raises(EnvironmentMissing, match=r"pydantic 2\.\S+, but 0\.0\.1 .* `make setup`"):
        await count.compute(CountSpec(), placed(home))
    assert starts(home) == 0


@pytest.mark.parametrize("is_served", [True, False])
async def test_a_served_step_is_refused_in_words_where_the_server_is_of_another_version(
    home: Path, is_served: bool
) -> None:
    serving = research_step(
        name="serving",
        spec=CountSpec,
        result=CountResult,
        body=count.body,
        serve_packages=("vllm",),
        serves=lambda _: is_served,
    )
    environment = serve_environment()
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    lay_down(environment)
    locked = serving.versions(CountSpec())
    for metadata in environment.folder.glob("lib/*/site-packages/vllm-*/METADATA"):
        metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.0.1\n")
    if not is_served:
        assert locked == {}
        await serving.compute(CountSpec(), placed(home))
        return
    with pytest.raises(
        EnvironmentMissing, match=r"(vllm \d\S+, but 0\.0\.1|changed since).* `make setup`"
    ):
        await serving.compute(CountSpec(), placed(home))
    assert starts(home) == 0


async def test_a_missing_input_is_named_before_anything_runs(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("soon gone")
    spec = ToySpec(source=str(path))  # type: ignore[arg-type]
    path.unlink()
    with pytest.raises(SpecError, match=r"ToySpec: source: cannot read .*text\.txt: No such file"):
        await toy.compute(spec, placed(home))
    assert starts(home) == 0


async def test_a_body_that_does_not_exist_is_named(home: Path) -> None:
    lost = research_step(
        name="lost", spec=CountSpec, result=CountResult, body="tests.fakes.no_such_body"
    )
    with pytest.raises(SpecError, match=r"tests\.fakes\.no_such_body"):
        await lost.compute(CountSpec())


async def test_a_check_that_refuses_keeps_nothing(home: Path) -> None:
    def check(spec: CountSpec, result: CountResult, open_artifact: object) -> None:
        raise ValueError(f"{result.num_units} units are too few")

    strict = research_step(
        name="strict",
        spec=CountSpec,
        result=CountResult,
        body="tests.fakes.count_body",
        check=check,
    )
    with pytest.raises(Exception, match="3 units are too few"):
        await strict.compute(CountSpec())
    assert strict.lookup(CountSpec()) is None


FAKE_NVIDIA_SMI = """#!/bin/sh
for n in 0 1 2 3; do
  echo "$n, GPU-$n$n$n$n$n$n$n$n-0000-0000-0000-000000000000, Fake H200, 143771"
done
"""


@pytest.fixture
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that says there are four."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(FAKE_NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("device_kind", "asked_for", "num_claimed"),
    [(DeviceKind.CPU, 0, 0), (DeviceKind.CUDA, 0, 1), (DeviceKind.CUDA, 2, 2)],
)
async def test_a_step_on_cuda_claims_one_gpu_unless_more_are_asked_for(
    home: Path, four_gpus: None, device_kind: DeviceKind, asked_for: int, num_claimed: int
) -> None:
    spec = ToySpec(device_kind=device_kind)
    record = (await toy.compute(spec, Placement(gpus=asked_for))).record
    uuids = record.provenance["gpus"]
    assert len(set(uuids)) == len(uuids) == num_claimed
    assert record.provenance["hardware"]["gpu_models"] == ["Fake H200"] * num_claimed


async def test_a_step_that_measures_has_the_host_alone_and_is_not_starved(home: Path) -> None:
    """Steps that compute come all the time; the one that measures runs between them, alone."""
    quiet, busy = home / "quiet", home / "busy"
    quiet.mkdir()
    busy.mkdir()
    is_measured = asyncio.Event()

    async def compute_on(lane: int) -> None:
        number = 0
        while not is_measured.is_set():
            number += 1
            spec = ToySpec(seed=1000 * lane + number, sleep_s=0.2)
            await toy.compute(spec, placed(busy))

    async def measure_once() -> None:
        await asyncio.sleep(0.5)
        await asyncio.wait_for(measure.compute(ToySpec(sleep_s=0.1), placed(quiet)), 30)
        is_measured.set()

    await asyncio.gather(compute_on(1), compute_on(2), compute_on(3), measure_once())
    (_, _, began), (_, _, ended) = notes(quiet)
    intervals: dict[int, list[float]] = {}
    for _, pid, when in notes(busy):
        intervals.setdefault(pid, []).append(when)
    assert intervals
    overlapping = [i for i in intervals.values() if i[0] < ended and i[-1] > began]
    assert overlapping == []
