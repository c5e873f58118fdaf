"""The main job on a machine with a GPU: the same file, on CUDA without edits.

    .venv/bin/pytest tests/gpu

What was measured where stands in RESULTS.md.
"""

from __future__ import annotations

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
    metrics = quickstart.folder / "logs" / "train" / "metrics.jsonl"
    assert '"peak_memory_gib"' in metrics.read_text()
