"""What `make` does in which order, on a clone where nothing is set up."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.mark.parametrize("targets", [["lint"], ["-j", "test"], ["-j", "demo"], ["-j", "test-long"]])
def test_what_uses_the_environment_waits_for_its_set_up(tmp_path: Path, targets: list[str]) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    planned = subprocess.run(
        ["make", "-n", *targets], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = planned.stdout.splitlines()
    set_up = next(i for i, line in enumerate(lines) if "infra/setup.py" in line)
    assert all(i > set_up for i, line in enumerate(lines) if ".venv/bin/" in line)


@pytest.mark.parametrize("target", ["lint", "format", "test", "demo"])
def test_what_uses_the_environment_makes_it_first(tmp_path: Path, target: str) -> None:
    """A failing set-up ends the target before anything of the environment is asked for."""
    shutil.copy(MAKEFILE, tmp_path)
    failed = subprocess.run(
        ["make", "-j", "PYTHON=false", target], cwd=tmp_path, capture_output=True, text=True
    )
    assert failed.returncode
    assert ".venv" not in failed.stdout + failed.stderr
