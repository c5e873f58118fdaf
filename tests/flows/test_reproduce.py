"""A run again: bit for bit where it should be, and what is not is named with its reason."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cli.reproduce import reproduce
from flows.cli.show import show_lineage
from flows.compare.subjects import Pair
from flows.experiment import (
    RunFolder,
    Watcher,
    call_directly,
    find_run,
    load_experiment,
    run_experiment,
)
from flows.experiment.measured import MeasuredStep, read_items
from flows.reproduce import Likeness, ReproductionOptions, reproduce_run, reproductions_of
from flows.reproduce.again import Cancelled
from flows.reproduce.judge import is_within, judged
from flows.reproduce.record import Expectation
from tasks.errors import SpecError
from tasks.store import Record, open_store
from tasks.store.layout import Layout
from tests.fakes.kept_runs import Kept, benchmark, evaluation, training
from tests.fakes.workbench import write_corpus

WRITE = """
import sys, time
from pathlib import Path
name, *words = sys.argv[1:]
Path(name).write_text(" ".join(words))
"""
NOISE = """
import time
from pathlib import Path
Path("out.txt").write_text(str(time.time_ns()))
Path("steady.txt").write_text("the same")
"""
CHAIN = """
experiment: {name: chain}
steps:
  one: {kind: command, script: python write.py out.txt 1, inputs: {data: data.txt}}
  two: {kind: command, script: python write.py out.txt 2, inputs: {one: "${steps.one.outputs}"}}
"""
NOISY = """
experiment: {name: noisy}
steps:
  noise: {kind: command, script: python noise.py, inputs: {}}
  after: {kind: command, script: [python, copy.py], inputs: {noise: "${steps.noise.outputs}"}}
"""
COPY = """
from pathlib import Path
Path("copy.txt").write_text(Path("inputs/noise/out.txt").read_text())
"""
TRAIN = """
experiment: {name: tiny}
steps:
  data: {kind: prepare, text: {source: corpus, target_document_characters: null}}
  train: {kind: train, model: MODEL, train_tokens: TOKENS, validation_tokens: TOKENS,
          num_steps: 6, batch_size: 2, learning_rate: 5.0e-3, device_kind: cpu}
"""


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in (("write", WRITE), ("noise", NOISE), ("copy", COPY)):
        (folder / f"{name}.py").write_text(text)
    (folder / "data.txt").write_text("data")
    return folder


async def ran(project: Path, text: str = CHAIN) -> RunFolder:
    path = project / "file.yaml"
    path.write_text(text)
    report = await run_experiment(load_experiment(path), call=call_directly)
    return find_run(report.id)


def left_in(home: Path) -> list[Path]:
    """Stores of reproductions that were not removed."""
    return [path for path in home.rglob("records") if path.parent != home]


async def test_training_comes_out_bit_for_bit(
    project: Path, home: Path, tiny_model: Path, tiny_tokens: Path
):
    write_corpus(project / "corpus")
    text = TRAIN.replace("MODEL", str(tiny_model)).replace("TOKENS", str(tiny_tokens))
    found = await reproduce_run(await ran(project, text))
    verdicts = {name: step.verdict for name, step in found.steps.items()}
    assert verdicts == {"data": Likeness.IDENTICAL, "train": Likeness.IDENTICAL}
    assert found.is_reproduced
    train = found.steps["train"]
    assert {check.name for check in train.artifacts} == {"model", "curve"}
    assert all(check.before == check.now for check in train.numbers)
    assert len(train.numbers) >= 8
    assert train.seconds_now != train.seconds_before, "it was computed, not looked up"
    assert left_in(home) == []


async def test_a_script_that_writes_the_time_is_outside_and_what_uses_it_follows(project: Path):
    run = await ran(project, NOISY)
    found = await reproduce_run(run)
    verdicts = {name: step.verdict.value for name, step in found.steps.items()}
    assert verdicts == {"noise": "outside", "after": "follows"}
    assert not found.is_reproduced
    (artifact,) = found.steps["noise"].artifacts
    assert artifact.files == ("out.txt",)
    assert found.steps["after"].reasons == ("its inputs differ: noise",)
    assert reproductions_of(run) == [found], "it is kept beside the run"


async def test_one_step_is_done_again_with_what_it_needs(project: Path):
    run = await ran(project)
    found = await reproduce_run(run, ReproductionOptions(only="one"))
    assert list(found.steps) == ["one"]
    found = await reproduce_run(run, ReproductionOptions(only="two"))
    assert list(found.steps) == ["one", "two"]
    assert found.is_reproduced
    with pytest.raises(SpecError, match=r"--step: run \w+ has no step 'tow'; did you mean 'two'"):
        await reproduce_run(run, ReproductionOptions(only="tow"))


async def test_inputs_that_changed_are_named_and_stop_it(project: Path):
    run = await ran(project)
    (project / "data.txt").write_text("other")
    (project / "write.py").write_text(WRITE + "\nprint('more')\n")
    with pytest.raises(SpecError) as caught:
        await reproduce_run(run)
    words = [str(problem) for problem in caught.value.problems]
    script, data, other, last = words
    assert f"steps.one.inputs.data: {project / 'data.txt'} has other content (" in data
    assert f"steps.one.script_file.content: {project / 'write.py'} has" in script
    assert "steps.two.script_file.content: " in other
    assert "--anyway" in last
    assert reproductions_of(run) == []


async def test_changed_inputs_may_be_let_pass_and_are_told(project: Path):
    run = await ran(project)
    (project / "data.txt").write_text("other")
    options = ReproductionOptions(only="one", anyway=True)
    found = await reproduce_run(run, options)
    assert [change.partition(":")[0] for change in found.changes] == ["steps.one.inputs.data"]
    assert found.is_reproduced, "the script looks at its arguments only"


async def test_inputs_that_are_gone_are_named(project: Path):
    run = await ran(project)
    (project / "data.txt").unlink()
    with pytest.raises(SpecError, match=r"no such file or folder: .*data\.txt"):
        await reproduce_run(run, ReproductionOptions(anyway=True))


async def test_a_step_that_fails_now_is_told_with_its_reason(project: Path):
    (project / "flag").write_text("")
    flag = project / "flag"
    (project / "write.py").write_text(f"open({str(flag)!r})")
    run = await ran(project)
    flag.unlink()
    found = await reproduce_run(run, ReproductionOptions(only="two"))
    assert [step.verdict for step in found.steps.values()] == [Likeness.FAILED, Likeness.FAILED]
    reason, logs = found.steps["one"].reasons
    assert "FileNotFoundError" in reason
    assert "FileNotFoundError" in (Path(logs.removeprefix("logs: ")) / "stderr.txt").read_text()
    assert not found.is_reproduced


async def test_a_damaged_record_leaves_nothing_to_hold_the_result_against(
    project: Path, home: Path
):
    run = await ran(project)
    report = run.read()
    assert report is not None
    identity = report.steps["two"].identity
    path = Layout(home).record("command", identity or "")
    path.write_bytes(path.read_bytes().replace(b"outputs", b"Outputs", 1))
    found = await reproduce_run(run, ReproductionOptions(only="two"))
    assert found.steps["one"].verdict is Likeness.IDENTICAL
    assert found.steps["two"].verdict is Likeness.UNKNOWN
    assert "checksum" in found.steps["two"].reasons[0]
    assert not found.is_reproduced


async def test_the_store_is_kept_where_asked_for(project: Path, home: Path):
    found = await reproduce_run(
        await ran(project), ReproductionOptions(only="one", keep_store=True)
    )
    assert found.store == str(home / "reproductions" / found.id)
    records = list((Path(found.store) / "records" / "command").iterdir())
    assert len(records) == 1
    assert open_store().read_record("command", records[0].stem) is not None, "ours again"


async def test_a_run_without_results_is_refused(project: Path):
    text = "steps:\n  no: {kind: command, script: [python, -c, exit(1)], inputs: {}}\n"
    with pytest.raises(SpecError, match="has no result that could be reproduced"):
        await reproduce_run(await ran(project, text))


class Interrupting(Watcher):
    """Presses Ctrl-C when a body runs."""

    def changed(self, report: Any, step: str) -> None:
        if report.steps[step].state == "running":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()


async def test_ctrl_c_leaves_no_store_no_verdict_and_no_process(project: Path, home: Path):
    slow = "import time, os\nfrom pathlib import Path\nif Path({flag!r}).exists(): time.sleep(60)\n"
    flag = project / "flag"
    (project / "write.py").write_text(slow.format(flag=str(flag)))
    run = await ran(project)
    flag.write_text("")
    before = time.monotonic()
    with pytest.raises(Cancelled):
        await reproduce_run(run, ReproductionOptions(only="one"), [Interrupting()])
    assert time.monotonic() - before < 30
    assert left_in(home) == []
    assert reproductions_of(run) == []
    assert os.environ["LABWRIGHT_HOME"] == str(home)


def test_the_command_prints_a_table_and_ends_with_the_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    run = asyncio.run(ran(project))
    assert reproduce(run.id, ReproductionOptions(only="one"), as_json=False) == 0
    out = capsys.readouterr()
    assert f"reproduced  run {run.id}" in out.out
    assert "bit for bit" in out.out
    assert "one: done" in out.err
    show_lineage(run.id, as_json=False)
    assert re.search(r"reproduced .*: all as it was \(step one\)", capsys.readouterr().out)
    run = asyncio.run(ran(project, NOISY))
    assert reproduce(run.id, ReproductionOptions(only="noise"), as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["is_reproduced"] is False
    assert found["steps"]["noise"]["artifacts"][0]["files"] == ["out.txt"]


# -- verdicts --------------------------------------------------------------------------


def again(then: Kept, now: Kept, **options: Any) -> Any:
    """The verdict on results that were never computed."""
    pair = Pair(*(_measured(kept) for kept in (then, now)))
    return judged(pair, ({}, {}), **options)


def again_with_items(then: Kept, now: Kept) -> Any:
    """The same of evaluations, with the items that they kept."""
    sides = [_measured(kept) for kept in (then, now)]
    samples = [read_items(open_store(), side.result) for side in sides]  # type: ignore[arg-type]
    return judged(Pair(*sides), (samples[0], samples[1]))


def _measured(kept: Kept) -> MeasuredStep:
    record = Record(
        step=kept.kind,
        identity=kept.identity or "a" * 64,
        spec=dict(kept.spec),
        result=kept.result.model_dump(mode="json"),
        artifacts=(),
        provenance=dict(kept.provenance),
    )
    return MeasuredStep("it", record, kept.result)


def test_timings_have_the_tolerance_that_is_stated(home: Path):
    then = benchmark([100.0, 101.0, 99.0])
    slower = benchmark([85.0, 86.0, 84.0], host="elsewhere")
    assert again(then, slower).expectation is Expectation.MEASURED
    assert again(then, slower).verdict is Likeness.WITHIN
    strict = again(then, slower, tolerance=0.1)
    assert strict.verdict is Likeness.OUTSIDE
    (outside,) = [check for check in strict.numbers if not check.is_within]
    assert outside.name == "concurrent 4, tokens/s"
    assert outside.ratio == pytest.approx(0.85)


@pytest.mark.parametrize("now", [[140.0, 190.0, 90.0], [40.0, 25.0, 62.0], [101.0, 60.0, 140.0]])
def test_noise_reproduces_nothing(home: Path, now: list[float]):
    found = again(benchmark([100.0, 60.0, 140.0]), benchmark(now))
    (check,) = [check for check in found.numbers if "tokens/s" in check.name]
    assert check.is_undecided
    assert not check.is_within
    assert "3 repeats are too few or too noisy to tell" in (check.reason or "")
    assert found.verdict is Likeness.UNDECIDED
    assert not found.verdict.is_good


def test_repeats_that_are_all_outside_are_outside_however_they_spread(home: Path):
    found = again(benchmark([100.0, 90.0, 110.0]), benchmark([30.0, 33.0, 27.0]))
    assert found.verdict is Likeness.OUTSIDE


def test_repeats_without_an_interval_are_judged_by_their_medians_and_say_so(home: Path):
    near, far = (again(benchmark([100.0, 101.0]), benchmark([n, n + 1])) for n in (95.0, 50.0))
    assert near.verdict is Likeness.WITHIN
    assert far.verdict is Likeness.OUTSIDE
    assert "2 repeats are too few for an interval" in str(far.numbers)


def test_a_score_that_few_items_cannot_tell_from_the_old_one_is_undecided(home: Path):
    spec = {"backend": "vllm"}
    then, now = (
        evaluation({"t": [1.0] * right + [0.0] * (10 - right)}, spec=spec) for right in (9, 5)
    )
    found = again_with_items(then, now)
    assert found.verdict is Likeness.UNDECIDED
    assert "holds no difference" in str(found.numbers)


def test_timings_of_another_machine_are_not_comparable(home: Path):
    elsewhere = {"hardware": {"cpu_model": "Slow", "num_cpus": 8}}
    found = again(benchmark([100.0, 101.0, 99.0]), benchmark([100.0, 101.0, 99.5], **elsewhere))
    assert found.verdict is Likeness.OUTSIDE
    assert "not comparable: other hardware: cpu_model Fast against Slow" in str(found.numbers)


def test_another_machine_or_version_excuses_bits_but_not_numbers(home: Path):
    then = training(3.0, versions={"torch": "2.13.0"})
    same, near, far = (
        training(loss, versions={"torch": version})
        for loss, version in ((3.001, "2.13.0"), (3.001, "2.14.0"), (3.5, "2.14.0"))
    )
    assert again(then, same).verdict is Likeness.OUTSIDE, "same place: every bit counts"
    excused = again(then, near)
    assert excused.verdict is Likeness.WITHIN
    assert excused.reasons == ("torch 2.13.0 against 2.14.0",)
    assert again(then, far).verdict is Likeness.OUTSIDE


def test_code_that_changed_since_is_told_and_excuses_bits(home: Path):
    then, now = training(3.0), replace(training(3.001), identity="b" * 64)
    found = again(then, now)
    assert found.verdict is Likeness.WITHIN
    assert found.reasons == ("the code of the step changed since",)


def test_scores_of_a_server_have_a_tolerance(home: Path):
    spec = {"backend": "vllm"}
    answers = [1.0] * 300 + [0.0] * 100
    then, near = evaluation({"t": answers}, spec=spec), evaluation({"t": [*answers[1:], 1.0]})
    assert again(then, near).expectation is Expectation.NUMBERS
    assert again(then, then).verdict is Likeness.IDENTICAL


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(100, 124, True), (124, 100, True), (100, 126, False), (0, 0, True), (0, 1e-9, False),
     (-1.0, 1.0, False), (None, 1.0, False)],
)  # fmt: skip
def test_a_tolerance_is_the_same_up_and_down(
    before: float | None, now: float | None, expected: bool
):
    assert is_within(before, now, 0.25) is expected
