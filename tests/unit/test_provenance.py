"""Every record says where its result came from, completely, and in a form that can be compared."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks.provenance
from tasks.provenance import changes_digest, git_state
from tests.fakes.steps import CountSpec, ToySpec, count, toy


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


async def test_a_record_holds_code_versions_machine_time_and_memory(home: Path) -> None:
    before = datetime.now(UTC)
    facts = (await count.compute(CountSpec(unit_s=0.05))).record.provenance
    assert set(facts) == {
        "argv",
        "core_lock",
        "duration_s",
        "environment",
        "gpus",
        "hardware",
        "host",
        "labwright",
        "peak_memory_bytes",
        "project",
        "python",
        "seeds",
        "started",
        "versions",
    }
    assert facts["argv"]
    assert set(facts["versions"]) == {"labwright", "pydantic"}
    assert facts["versions"]["pydantic"].startswith("2.")
    assert len(facts["core_lock"]) == len(facts["hardware"]["fingerprint"]) == 16
    assert facts["hardware"]["num_cpus"] > 0
    assert facts["hardware"]["memory_bytes"] > 1 << 28
    assert abs(datetime.fromisoformat(facts["started"]) - before) < timedelta(seconds=30)
    assert 0.15 < facts["duration_s"] < 60
    assert 10 << 20 < facts["peak_memory_bytes"] < 1 << 30


async def test_a_record_says_what_labwright_was_run_for_and_its_identity_does_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_ENVIRONMENT", "production")
    made = await toy.compute(ToySpec(seed=3))
    assert made.record.provenance["environment"] == "production"
    monkeypatch.setenv("LABWRIGHT_ENVIRONMENT", "staging")
    assert toy.lookup(ToySpec(seed=3)) == made.record


async def test_a_record_repeats_the_seeds_of_its_spec(home: Path) -> None:
    assert (await toy.compute(ToySpec(seed=17))).record.provenance["seeds"] == {"seed": 17}


async def test_a_record_holds_the_code_as_it_was_when_the_body_started(
    home: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    clean = (await toy.compute(ToySpec(seed=1))).record.provenance["project"]
    (checkout / "code.py").write_text("a = 2\n")
    dirty = (await toy.compute(ToySpec(seed=2))).record.provenance["project"]
    commit = git(checkout, "rev-parse", "HEAD")
    assert clean == {"commit": commit, "is_dirty": False}
    assert (dirty["commit"], dirty["is_dirty"], dirty["diff_is_cut"]) == (commit, True, False)
    assert "-a = 1\n+a = 2\n" in dirty["diff"]


def test_a_long_diff_is_cut_and_still_has_a_digest(checkout: Path) -> None:
    digests = set()
    for last in ("x", "y"):
        (checkout / "code.py").write_text("b = 1\n" * 20_000 + last)
        state = git_state(checkout)
        assert state is not None
        assert state["diff_is_cut"]
        assert len(state["diff"]) == 65_536
        digests.add(state["diff_sha256"])
    assert len(digests) == 2


def test_a_file_that_git_does_not_know_yet_is_a_change_and_counts_by_content(
    checkout: Path,
) -> None:
    (checkout / ".gitignore").write_text("ignored.txt\n")
    git(checkout, "add", ".gitignore")
    git(checkout, "commit", "-qm", "second")
    (checkout / "ignored.txt").touch()
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "code.pyc").touch()
    states = [git_state(checkout)]
    (checkout / "deep").mkdir()
    for text in ("a = 1", "a = 2"):
        (checkout / "train.py").write_text(text)
        states.append(git_state(checkout / "deep"))
    clean, first, second = (state or {} for state in states)
    assert clean == {"commit": git(checkout, "rev-parse", "HEAD"), "is_dirty": False}
    assert (first["is_dirty"], first["num_untracked"], first["untracked"]) == (
        True,
        1,
        ["train.py"],
    )
    assert changes_digest(clean) == ""
    assert changes_digest(first) != changes_digest(second)


def test_large_and_strange_untracked_files_count_without_being_read(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.provenance, "MAX_UNTRACKED_BYTES", 10)
    (checkout / "large.bin").write_bytes(b"x" * 11)
    (checkout / "link").symlink_to("nowhere")
    (checkout / "new\nline").write_text("x")
    first = git_state(checkout)
    (checkout / "large.bin").write_bytes(b"x" * 12)
    second = git_state(checkout)
    assert first is not None
    assert second is not None
    assert first["untracked"] == ["large.bin", "link", "new\nline"]
    assert first["untracked_sha256"] != second["untracked_sha256"]


def test_what_labwright_keeps_in_a_checkout_is_no_change_of_its_code(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", str(checkout / "lab"))
    (checkout / "lab").mkdir()
    (checkout / "lab" / "server.json").touch()
    state = git_state(checkout)
    assert state is not None
    assert not state["is_dirty"]


def test_outside_of_a_checkout_there_is_no_code_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_what_a_checkout_configures_is_not_run(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "config", "diff.external", f"touch {tmp_path}/was-run; true")
    git(checkout, "config", "core.fsmonitor", f"touch {tmp_path}/was-run; true")
    (checkout / "code.py").write_text("a = 3\n")
    state = git_state(checkout)
    assert state is not None
    assert "+a = 3" in state["diff"]
    assert not (tmp_path / "was-run").exists()
