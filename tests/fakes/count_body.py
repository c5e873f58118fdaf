"""A body as they should be written: it reports what it does, and goes on where it was killed."""

from __future__ import annotations

import math
import time

from tasks.artifacts import ArtifactKind
from tasks.body import BodyContext, run_body
from tests.fakes.toy_body import note
from tests.fakes.toy_spec import CountResult, CountSpec


def main(spec: CountSpec, context: BodyContext) -> CountResult:
    note("start")
    loss = math.nan if spec.loss_is_nan else spec.loss
    progress = context.checkpoints / "num_units"
    first = int(progress.read_text()) if progress.exists() else 0
    print(f"counting from {first}", flush=True)
    for unit in range(first, spec.num_units):
        time.sleep(spec.unit_s)
        note(f"unit-{unit}")
        progress.write_text(str(unit + 1))
        context.metrics(unit + 1, num_steps=spec.num_units, loss=loss)
    if spec.fails_with:
        raise ValueError(spec.fails_with)
    if spec.fails_with_bug:
        [][spec.num_units]
    report = context.out / "report"
    report.mkdir()
    (report / "index.html").write_text(f"<p>{spec.num_units} units</p>")
    return CountResult(
        num_units=spec.num_units, report=context.artifact(ArtifactKind.REPORT, report)
    )


if __name__ == "__main__":
    run_body(CountSpec, main)
