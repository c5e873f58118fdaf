"""One run of examples/quickstart.yaml for the whole session: the real file, with small sizes.

Whoever wants a trained, compressed, evaluated, benchmarked and analyzed model takes `quickstart`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.artifacts import ArtifactRef
from tasks.environments import serve_folder
from tasks.errors import EnvironmentMissing
from tasks.registry import step_of
from tasks.store import open_store

FILE = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
SMALL = (
    "steps.train.num_steps=60",
    "steps.train.evaluate_every_steps=30",
    "steps.data.heldout={num_documents: 120, num_choice_items: 100}",
    "steps.benchmark_baseline.num_requests=8",
    "steps.benchmark_w8a8.num_requests=8",
    "steps.benchmark_baseline.profiles=[{kind: synchronous}, {kind: concurrent, streams: 4}]",
    "steps.benchmark_w8a8.profiles=[{kind: synchronous}, {kind: concurrent, streams: 4}]",
)


def small_arguments(*more: str) -> list[str]:
    """`--set` for every small size, and for what a test wants beside."""
    return [word for override in (*SMALL, *more) for word in ("--set", override)]


def labwright(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it, in the environment of the test."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second run finds it compiled
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@dataclass(frozen=True)
class QuickstartRun:
    """What `labwright run --json` said, and what the store holds of it."""

    home: Path
    summary: dict[str, Any]
    seconds: float

    @property
    def folder(self) -> Path:
        return self.home / "runs" / str(self.summary["id"])

    def result(self, name: str, kind: str) -> Any:
        """The typed result of one of its steps."""
        step = step_of(kind)
        record = open_store(self.home).read_record(kind, self.summary["steps"][name]["identity"])
        assert record is not None
        return step.result(record)

    def path(self, ref: ArtifactRef) -> Path:
        return open_store(self.home).materialize(ref)


def demand_serving() -> Path:
    """Where environments lie; fails without vLLM, which `make test` sets up first.

    A skip would look like a test passed.
    """
    try:
        return serve_folder().parent
    except EnvironmentMissing as error:
        pytest.fail(f"THE MAIN JOB IS NOT TESTED: {error}", pytrace=False)


@pytest.fixture(scope="session")
def quickstart(session_home: Path, prefect_server: str) -> QuickstartRun:
    """Runs once, in the home that tests share, on the server that tests share."""
    demand_serving()
    started = time.monotonic()
    variables = {"LABWRIGHT_HOME": str(session_home), "PREFECT_API_URL": prefect_server}
    ran = labwright("run", str(FILE), "--json", *small_arguments(), **variables)
    seconds = time.monotonic() - started
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return QuickstartRun(session_home, json.loads(ran.stdout), seconds)
