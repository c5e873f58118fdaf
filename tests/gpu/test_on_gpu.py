"""The main job on a machine with a GPU: the same file, on CUDA without edits.

    .venv/bin/pytest tests/gpu

What was measured where stands in RESULTS.md.
"""

from __future__ import annotations

import json
import shutil

import pytest

from tasks.gpus import list_gpus
from tasks.spec import DeviceKind
from tasks.store import open_store
from tests.fakes.quickstart import QuickstartRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not shutil.which("nvidia-smi"), reason="NOTHING RUNS ON A GPU HERE: no NVIDIA driver"
    ),
]
CPU_TOKENS_PER_S = 40_000  # of the model of the quickstart: two cores come to 19,000
ON_GPU = {
    "train": "train",
    "w8a8": "compress",
    "evaluate_baseline": "evaluate",
    "benchmark_baseline": "benchmark",
}


@pytest.mark.parametrize("name", ON_GPU)
def test_a_step_of_the_quickstart_ran_on_a_gpu_that_its_record_names(
    quickstart: QuickstartRun, name: str
) -> None:
    identity = quickstart.summary["steps"][name]["identity"]
    record = open_store(quickstart.home).read_record(ON_GPU[name], identity)
    assert record is not None
    assert record.spec.get("device_kind", DeviceKind.CUDA) == DeviceKind.CUDA
    assert set(record.provenance["gpus"]) <= {gpu.uuid for gpu in list_gpus()}
    assert len(record.provenance["gpus"]) == 1


def test_training_on_a_gpu_reports_its_utilisation(quickstart: QuickstartRun) -> None:
    """The model is tiny, so little of a GPU is used; on a CPU no `mfu` is written at all."""
    from tasks.train.throughput import PEAK_FLOPS_PER_S  # brings torch

    file = quickstart.folder / "logs" / "train" / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    speeds = [line for line in lines if "tokens_per_s" in line]
    assert speeds
    assert max(line["tokens_per_s"] for line in speeds) > CPU_TOKENS_PER_S
    if any(part in gpu.name for gpu in list_gpus() for part in PEAK_FLOPS_PER_S):
        assert all(0 < line["mfu"] < 1 for line in speeds)
    else:
        pytest.skip("the peak of this GPU is not known to tasks/train/throughput.py")
