"""What a person waits for before a file is known to be sound."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.fakes.figures import Figure
from tests.fakes.quickstart import FILE, labwright

NUM_ROUNDS = 3


def test_cost_of_validating_the_quickstart(home: Path, figure: Figure) -> None:
    bare_s, validate_s = [], []
    for _ in range(NUM_ROUNDS):  # in turns, so that a busy machine slows both
        started = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", "import pydantic"], check=True)
        bare_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        validated = labwright("validate", str(FILE))
        validate_s.append(time.perf_counter() - started)
        assert validated.returncode == 0, validated.stderr
    figure(
        "labwright validate, over an interpreter that loads pydantic",
        f"{min(validate_s):.2f} s",
        aim="under 2.5 s",
        ratio=min(validate_s) / min(bare_s),
    )
