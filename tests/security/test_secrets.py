"""A secret that a body may need stays out of everything that is kept or shown of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import StepFailed
from tasks.observer import observing
from tasks.scrubbing import Scrubber, is_secret_name, scrub, secrets_in
from tests.fakes.steps import Manner, ToySpec, Witness, notes, placed, toy

ENV, PLACED, DOTENV, URL, ARGV = (f"canary-{place}-0123456789" for place in "epdua")
KNOWN = (ENV, PLACED, DOTENV, URL)


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets wherever users put them."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / ".env").write_text(f"WANDB_API_KEY={DOTENV}\n")
    monkeypatch.setenv("HF_TOKEN", ENV)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://lab:{URL}@db.example.org/lab")
    arguments = [f"--api-key={ARGV}", "--token", ARGV, f"steps.x.environment.HF_TOKEN={ARGV}"]
    monkeypatch.setattr(sys, "argv", ["labwright", *arguments, f"--text={ENV}", "--num-tokens=5"])


def leaks(folder: Path, secrets: tuple[str, ...]) -> list[str]:
    """Files below a folder that hold one of them."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


@pytest.mark.usefixtures("canaries")
async def test_nothing_that_is_kept_of_a_chatty_body_holds_a_secret(
    home: Path, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "run" / "logs")
    placement = placed(tmp_path, environment={"LAB_PASSWORD": PLACED})
    with observing(witness):
        computed = await toy.compute(ToySpec(manner=Manner.PRINTS_ITS_ENVIRONMENT), placement)
    assert any(line == "HF_TOKEN=***" for line in witness.lines)
    assert any(line.startswith("DATABASE_URL=postgresql://lab:***@") for line in witness.lines)
    told = json.dumps([witness.lines, witness.metrics])
    assert not any(secret in told for secret in (*KNOWN, ARGV))
    assert (tmp_path / "run" / "logs" / "stdout.txt").read_text().count("***") >= 3
    assert leaks(home, (*KNOWN, ARGV)) == []
    assert leaks(tmp_path / "run", (*KNOWN, ARGV)) == []
    assert computed.record.provenance["argv"] == [
        "labwright",
        "--api-key=***",
        "--token",
        "***",
        "steps.x.environment.HF_TOKEN=***",
        "--text=***",
        "--num-tokens=5",
    ]


@pytest.mark.usefixtures("canaries")
async def test_the_reason_and_the_logs_of_a_failure_hold_no_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASE_TOKEN", "wrong phase")
    with pytest.raises(StepFailed, match=r"the moon is in the \*\*\*") as caught:
        await toy.compute(ToySpec(manner=Manner.EXITS_1_WITH_WORDS))
    assert caught.value.logs is not None
    assert leaks(caught.value.logs, ("wrong phase",)) == []


@pytest.mark.usefixtures("canaries")
async def test_a_running_body_shows_no_secret_to_those_who_list_processes(
    home: Path, tmp_path: Path
) -> None:
    placement = placed(tmp_path, environment={"LAB_PASSWORD": PLACED})
    calling = asyncio.create_task(toy.compute(ToySpec(manner=Manner.SLEEPS), placement))
    while not notes(tmp_path, "ready"):
        await asyncio.sleep(0.02)
    listed = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    )
    assert "tests.fakes.toy_body" in listed.stdout
    assert not any(secret in listed.stdout for secret in (*KNOWN, ARGV))
    assert leaks(home, (*KNOWN, ARGV)) == [], "request.json and logs, while it runs"
    calling.cancel()
    await asyncio.wait({calling})


def test_a_diff_of_a_tracked_dotenv_is_scrubbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.provenance import git_state

    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *arguments], check=True)
    (tmp_path / ".env").write_text(f"WANDB_API_KEY={DOTENV}\n")
    subprocess.run(["git", "add", "-f", ".env"], check=True)
    state = git_state(tmp_path)
    assert state is not None
    assert "+WANDB_API_KEY=***" in state["diff"]


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter22@example.org/x.git",
        "s3://:hunter22@bucket/key",
        "hf_" + "a" * 34,
        "sk-proj-" + "a" * 40,
        "ghp_" + "a" * 36,
        "AKIA" + "A" * 16,
    ],
)
def test_what_has_the_form_of_a_secret_is_hidden_wherever_it_came_from(text: str) -> None:
    hidden = scrub({"list": [f"before {text} after"]})["list"][0]
    assert "***" in hidden
    assert "hunter22" not in hidden
    assert "aaaa" not in hidden.lower()


@pytest.mark.parametrize("name", ["HF_TOKEN", "hf-token", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["NUM_TOKENS", "TOKENIZERS_PARALLELISM", "--max-tokens", "AUTHOR", "monkey", "keyboard"]
)
def test_names_that_only_look_like_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_ordinary_text_is_left_alone_and_short_values_are_no_secrets() -> None:
    assert secrets_in({"A_TOKEN": "abc", "PATH": "/usr/bin", "KEY": "line-one\nline-two"}) == {
        "line-one",
        "line-two",
    }
    text = "step 10: loss 2.5, disk-based task-oriented, https://example.org:8080/a@b"
    assert Scrubber({"secret-value"}).text(text) == text


def test_a_log_that_is_not_text_survives_byte_for_byte_around_a_secret(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe secret-value \x00\r\n\rmore")
    Scrubber({"secret-value"}).file(log)
    assert log.read_bytes() == b"\xff\xfe *** \x00\r\n\rmore"
    assert json.loads(json.dumps(scrub({"n": 1, "none": None}))) == {"n": 1, "none": None}
