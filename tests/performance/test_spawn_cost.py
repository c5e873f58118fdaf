"""What the supervisor costs: a command under it against the same command started bare."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tasks.process import Command, run
from tests.fakes.figures import Figure

NUM_ROUNDS = 20
AIM_MS = 80.0


async def test_spawn_cost(tmp_path: Path, figure: Figure) -> None:
    argv = (sys.executable, "-c", "pass")
    command = Command(
        argv=argv,
        cwd=tmp_path,
        environment=dict(os.environ),
        stdout=tmp_path / "stdout.txt",
        stderr=tmp_path / "stderr.txt",
    )
    bare_ms, supervised_ms = [], []
    for _ in range(NUM_ROUNDS):  # in turns, so that a busy machine slows both
        started = time.perf_counter()
        subprocess.run(argv, check=True)
        bare_ms.append(1000 * (time.perf_counter() - started))
        started = time.perf_counter()
        outcome = await run(command, on_line=lambda *_: None)
        supervised_ms.append(1000 * (time.perf_counter() - started))
        assert outcome.exit_code == 0
    bare, supervised = statistics.median(bare_ms), statistics.median(supervised_ms)
    figure(
        f"supervised process over a bare one, median of {NUM_ROUNDS}",
        f"{supervised - bare:.0f} ms",
        aim=f"at most {AIM_MS:g} ms",
        ratio=supervised / bare,
    )
