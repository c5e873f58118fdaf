"""What is said of a run: every claim has its numbers, and says no more than they do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.analysis.ablation import ablations, ablations_of
from flows.analysis.bottlenecks import critical_path
from flows.analysis.comparison import words_of
from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, as_markdown
from flows.analysis.findings import facts_of
from flows.analysis.numbers import check_numbers
from flows.analysis.runs import runs_at
from flows.analysis.serving import words_of as speed_words
from flows.cli.analyze import analyze
from flows.cli.report import report
from flows.compare.outcome import judge
from flows.compare.results import compare_one_after_the_other
from flows.experiment.folder import RunFolder
from flows.experiment.record import RunStatus, StepState
from tasks.analyze.comparison import Method, PairedComparison, Statistic
from tasks.analyze.repeats import RepeatComparison, RepeatMethod
from tasks.errors import SpecError
from tasks.store import open_store
from tests.fakes import kept_runs
from tests.fakes.kept_run import keep_run

pytestmark = pytest.mark.usefixtures("home")


def facts(run: RunFolder) -> tuple[Fact, ...]:
    return facts_of(RunEvidence.read(run))


def claims(found: tuple[Fact, ...], kind: FactKind) -> list[str]:
    return [fact.claim for fact in found if fact.kind is kind]


def comparison(low: float | None, estimate: float | None, high: float | None) -> PairedComparison:
    return PairedComparison(
        statistic=Statistic.RECOVERY,
        estimate=estimate,
        low=low,
        high=high,
        confidence=0.95,
        method=Method.UNSEEN,
        num_items=100,
        num_units=100,
        reason="too few items" if low is None else None,
    )


@pytest.mark.parametrize(
    ("found", "p_holm", "words"),
    [
        (
            comparison(0.95, 0.96, 0.97),
            0.01,
            r"kept 96.00% \(95% interval 95.00% to 97.00%\): it l",
        ),
        (comparison(0.95, 0.96, 0.97), 0.12, r"95.00% to 97.00%\): no difference shown"),
        (comparison(1.01, 1.02, 1.03), 0.01, r"it is better$"),
        (comparison(0.97, 1.0, 1.03), 0.9, r"no difference shown, which is not to say .* none$"),
        (comparison(0.98, 0.99, 1.0), 0.01, r"no difference shown"),
        (comparison(0.9999, 0.99993, 0.999997), 0.01, r"kept 99.9930% \(.* to 99.9997%\): it lost"),
        (
            comparison(None, 0.9, None),
            0.01,
            r"kept 90.00%; no interval, so no difference is claimed",
        ),
        (comparison(None, None, None), None, r"cannot be compared: too few items$"),
    ],
)
def test_words_say_no_more_than_interval_and_corrected_p_value(
    found: PairedComparison, p_holm: float | None, words: str
) -> None:
    said = words_of(found, judge(found, p_holm))
    assert re.search(words, said)
    assert "equal" not in said


def test_a_whole_run_gives_facts_of_every_kind_the_same_each_time(tmp_path: Path) -> None:
    run = keep_run(tmp_path)
    found = facts(run)
    assert {fact.kind for fact in found} == set(FactKind) - {FactKind.ABLATION}
    assert facts(run) == found


def test_every_number_of_a_claim_is_among_its_numbers(tmp_path: Path) -> None:
    run = RunEvidence.read(keep_run(tmp_path))
    other = RunEvidence.read(keep_run(tmp_path, num_steps=900, with_analysis=False))
    found = facts_of(run, ablations_of(run, [other]))
    assert {fact.kind for fact in found} == set(FactKind)
    for fact in found:
        words = re.sub(r"concurrent 4|steps\.train\.num_steps: \d+ → \d+", "", fact.claim)
        assert not check_numbers(words, [fact]).unsupported, fact


def test_shares_of_time_and_the_longest_chain(tmp_path: Path) -> None:
    found = claims(facts(keep_run(tmp_path, with_analysis=False)), FactKind.BOTTLENECK)
    assert found[0].startswith("train took 100 s when it was computed, 44.4% of the 225 s")
    assert "takes 165 s of 225 s: data → train → small → bench" in found[-1]


def test_the_critical_path_follows_the_dearest_dependency() -> None:
    seconds = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}
    upstream = {"c": ("a",), "d": ("b", "c")}
    assert critical_path(seconds, upstream) == (["b", "d"], 6.0)
    assert critical_path({}, {}) == ([], 0.0)


def test_a_loss_of_quality_is_found_with_its_interval_and_needs_attention(tmp_path: Path) -> None:
    found = [f for f in facts(keep_run(tmp_path)) if "text/bits_per_byte" in f.claim]
    (fact,) = [f for f in found if f.kind is FactKind.BASELINE]
    assert fact.needs_attention
    assert "it lost some" in fact.claim
    assert fact.numbers["low"] < fact.numbers["recovery"] < fact.numbers["high"] < 1
    assert fact.numbers["p_holm"] >= fact.numbers["p_value"]


def repeats(low: float | None, estimate: float, high: float | None) -> RepeatComparison:
    return RepeatComparison(
        estimate=estimate,
        low=low,
        high=high,
        confidence=0.95,
        method=RepeatMethod.STUDENT if low else RepeatMethod.NONE,
        num_repeats=3,
        p_value=0.01 if low else None,
        drift=None,
    )


@pytest.mark.parametrize(
    ("found", "p_holm", "words"),
    [
        (repeats(0.8, 0.9, 0.95), 0.01, "90.0% (95% interval 80.0% to 95.0%): it is slower"),
        (repeats(1.05, 1.1, 1.2), 0.01, "110.0% (95% interval 105.0% to 120.0%): it is faster"),
        (repeats(0.8, 0.9, 0.95), 0.2, "90.0% (95% interval 80.0% to 95.0%): no difference shown"),
        (repeats(None, 0.5, None), None, "50.0%; no interval, so no difference is claimed"),
    ],
)
def test_speeds_are_told_by_their_repeats(
    found: RepeatComparison, p_holm: float | None, words: str
) -> None:
    assert speed_words(found, judge(found, p_holm)).startswith(words)


def test_speeds_that_drift_while_benchmarks_took_no_turns_are_not_told_apart() -> None:
    before, after = ([level + 2.0 * n + 0.01 * n**2 for n in range(5)] for level in (100, 80))
    found = compare_one_after_the_other(before, after, 0.95)
    assert found.low is None
    assert "drift" in speed_words(found, judge(found, found.p_value))


def test_speed_and_service_levels_are_told_load_by_load(tmp_path: Path) -> None:
    found = claims(facts(keep_run(tmp_path, said="small")), FactKind.BASELINE)
    (slow,) = [c for c in found if c.startswith("small served 21 output tokens/s under synchr")]
    assert "base 50 (medians of 3 repeats): 42.0% (95% interval" in slow
    assert "it is slower, p " in slow
    assert "bench kept its service level under synchronous in 3 of 3 repeats" in found
    assert "bench kept its service level under concurrent 4 in 0 of 3 repeats" in found


def test_data_that_is_missing_or_shared_is_told_with_its_counts(tmp_path: Path) -> None:
    found = claims(
        facts(keep_run(tmp_path, num_overlapping=5, num_test=0, with_analysis=False)), FactKind.DATA
    )
    assert any("left out 5 documents of validation and test for sharing" in c for c in found)
    assert any("0 test (0.0%)" in c for c in found)
    assert "the test split of data is empty: 0 documents" in found


def test_a_damaged_artifact_and_a_lost_record_are_found(tmp_path: Path, home: Path) -> None:
    run = keep_run(tmp_path, with_analysis=False)
    (line,) = [c for c in claims(facts(run), FactKind.MODEL) if "artifacts are" in c]
    assert re.match(r"(\d+) of \1 artifacts are", line)
    evidence = RunEvidence.read(run)
    digest = evidence.records["small"].result["model"]["digest"]
    (path,) = [p for p in (home / "objects").rglob("*") if digest.endswith(p.name) and p.is_file()]
    path.chmod(0o644)
    path.write_bytes(b"flipped bytes")
    step = evidence.report.steps["train"]
    open_store().set_aside("train", str(step.identity))
    found = claims(facts(run), FactKind.MODEL)
    (lost,) = [c for c in found if c.startswith("the result of train cannot be read: its record")]
    assert lost.endswith(" is gone from the store")
    assert any("damaged: small of small" in c for c in found)


def test_runs_that_differ_in_one_field_are_compared_item_by_item(tmp_path: Path) -> None:
    one = RunEvidence.read(keep_run(tmp_path, num_steps=300, with_analysis=False))
    other = RunEvidence.read(keep_run(tmp_path, num_steps=600, error_every=2, with_analysis=False))
    (row,) = ablations([one, other])
    assert (row.parameter, row.before, row.after) == ("steps.train.num_steps", 300, 600)
    outcomes = {outcome.name: outcome for outcome in row.outcomes}
    accuracy = outcomes["eval_small, choice/acc"]
    assert accuracy.comparison is not None
    assert accuracy.comparison.estimate == pytest.approx(accuracy.after - accuracy.before)
    assert accuracy.comparison.high is not None
    assert accuracy.comparison.high < 0
    assert accuracy.p_holm is not None
    assert outcomes["train, held-out loss"].comparison is None
    assert row.num_equal == 2, "both scores of the baseline are those of the same result"
    text = " ".join(c for c in claims(facts_of(other, [row]), FactKind.ABLATION))
    assert "steps.train.num_steps: 300 → 600 changed eval_small, choice/acc: 0.9" in text
    assert "they differ, it is worse" in text
    assert "train, held-out loss: 3.27 → 3.24; no interval, so no difference is claimed" in text


def test_an_average_over_tasks_is_compared_by_the_items_of_its_tasks() -> None:
    base = {task: [1.0] * 180 + [0.0] * 20 for task in "ab"}
    worse = {task: [0.0] * 60 + [1.0] * 120 + [0.0] * 20 for task in "ab"}
    one, other = (
        RunEvidence.read(
            kept_runs.keep_run(
                {"it": kept_runs.with_average(answers)}, {"steps": {"it": {"seed": seed}}}
            )
        )
        for seed, answers in enumerate((base, worse))
    )
    (row,) = ablations([one, other])
    (average,) = (found for found in row.outcomes if found.name == "it, all/average")
    assert average.comparison is not None
    assert average.comparison.estimate == pytest.approx(120 / 180)
    (text,) = (c for c in claims(facts_of(other, [row]), FactKind.ABLATION) if "average" in c)
    assert re.search(r"0\.9 → 0\.6, times 0\.6667 \(95% interval 0\.\d+ to 0\.\d+, 400 items", text)
    assert "they differ, it is worse" in text


def test_runs_that_differ_in_more_than_one_field_are_no_ablation(tmp_path: Path) -> None:
    one, other = (
        RunEvidence.read(keep_run(tmp_path, num_steps=n, with_analysis=False)) for n in (300, 600)
    )
    resolved = json.loads((other.folder.spec / "resolved.json").read_text())
    resolved["steps"]["train"]["seed"] = 1
    (other.folder.spec / "resolved.json").write_text(json.dumps(resolved))
    assert ablations([one, RunEvidence.read(other.folder)]) == []


def test_a_folder_is_told_by_the_newest_run_of_each_file(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_run(tmp_path, with_analysis=False)
    newest = keep_run(tmp_path, num_steps=600, error_every=2, with_analysis=False)
    for folder in (home / "runs", tmp_path):
        analyze(str(folder), as_json=True)
        (document,) = json.loads(capsys.readouterr().out)
        assert document["run"] == newest.id
        assert any(fact["kind"] == "ablation" for fact in document["facts"])
    with pytest.raises(SpecError, match="holds no run"):
        runs_at(tmp_path / "work-nothing")


def test_facts_are_printed_and_kept_beside_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = keep_run(tmp_path, with_analysis=False)
    analyze(run.id, as_json=False)
    printed = capsys.readouterr().out
    document: dict[str, Any] = json.loads((run.page / "facts.json").read_text())
    markdown = (run.page / "facts.md").read_text()
    assert document["prose"] is None
    for fact in document["facts"]:
        assert Fact.model_validate(fact).claim in printed
        assert fact["claim"] in markdown
        assert json.dumps(fact["numbers"]) in markdown


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' $x_1$ {{ 7*7 }}"


def test_a_page_escapes_whatever_a_file_or_a_model_says(tmp_path: Path) -> None:
    run = keep_run(tmp_path, said=HOSTILE)
    report(run.id, None)
    page = (run.page / "run.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert not re.search(r'(?:src|href)="(?!data:image/svg)', page), "nothing is fetched"
    assert "Content-Security-Policy\" content=\"default-src 'none'" in page


def test_a_page_is_written_to_a_file_and_not_to_a_folder(tmp_path: Path) -> None:
    run = keep_run(tmp_path, with_analysis=False)
    with pytest.raises(SpecError, match="is a folder; name a file"):
        report(run.id, tmp_path)


def test_a_page_shows_what_there_is(tmp_path: Path) -> None:
    run = keep_run(tmp_path, with_analysis=False)
    out = tmp_path / "elsewhere" / "page.html"
    report(run.id, out)
    page = out.read_text()
    assert 'alt="Training loss"' in page
    assert 'alt="Latency against throughput"' in page
    assert "Recovery" not in re.sub(r"base64,[^\"]*", "", page)
    assert "model, exists" not in page, "a promise named by its type says it once"
    for heading in ("Promises and gates", "Results", "Facts", "Steps", "How to reproduce"):
        assert f"<h2>{heading}</h2>" in page


def test_a_page_shows_gates_samples_and_how_to_reproduce(tmp_path: Path) -> None:
    run = keep_run(tmp_path, said="variant")
    report(run.id, None)
    page = (run.page / "run.html").read_text()
    assert "quality: recovery is 90% variant" in page
    assert "Samples side by side" in page
    assert page.count('<p class="label">right answer</p><pre class="said"> yes</pre>') >= 3
    assert f"labwright run {tmp_path}/kept.yaml --set steps.train.num_steps=300" in page
    assert f"git checkout {'c' * 40}" in page


def test_a_run_that_failed_says_why_and_claims_nothing_of_what_is_not_there(tmp_path: Path) -> None:
    run = keep_run(tmp_path, with_analysis=False)
    kept = run.read()
    assert kept is not None
    failed = {
        name: step.model_copy(update={"state": StepState.FAILED, "error": "out of memory\ndetails"})
        for name, step in kept.steps.items()
    }
    run.write(kept.model_copy(update={"status": RunStatus.FAILED, "steps": failed}))
    found = facts(run)
    assert {fact.kind for fact in found} == {FactKind.RUN}
    assert found[0].claim == "0 of 6 steps have a result; the run is failed"
    assert found[1].claim == "step data failed: out of memory"
    assert ablations_of(RunEvidence.read(run), []) == []


def test_names_cannot_steer_a_terminal_or_become_html_in_markdown() -> None:
    fact = Fact(
        kind=FactKind.DATA, claim="\x1b[31m<b>bold</b>\u202e", numbers={}, source="<i>s</i>"
    )
    text = as_markdown("t", [fact])
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert not {"\x1b", "\u202e", "<b>", "<i>"} & {*text, *re.findall(r"<\w>", text)}
