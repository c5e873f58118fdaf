"""Which build of torch pip is made to take: the CPU's without a GPU, CUDA's with one.

pip is asked first what it would take as it is configured (a company's mirror, a folder of wheels).
Where that is the right build nothing is added; else pip is sent to PyTorch's own index. Asking
reads metadata only, so that no CUDA build (gigabytes) is downloaded for nothing. Pure.

    source_arguments("cpu", is_cuda_build(report))   # () or ("--index-url", …)
"""

from __future__ import annotations

import re
from typing import Any

TORCH_INDEX = "https://download.pytorch.org/whl/"  # the one address in this repository
INDEX_FOLDERS = {"cpu": "cpu", "cuda": "cu130"}  # accelerator -> folder of that index


def is_cuda_build(report: dict[str, Any] | None) -> bool | None:
    """Whether pip's report (`pip install --report`) names a CUDA build; None if pip found no torch.

    A version with a local part says what it is (`2.13.0+cpu`); the others tell by what they need.
    """
    if not report or not report.get("install"):
        return None
    metadata = report["install"][0]["metadata"]
    _, has_local_part, local_part = metadata["version"].partition("+")
    if has_local_part:
        return bool(local_part.startswith("cu"))
    return any(re.match(r"nvidia-|cuda-", need) for need in metadata.get("requires_dist", ()))


def source_arguments(accelerator: str, found_cuda: bool | None) -> tuple[str, ...]:
    """pip's further arguments, given what it would take without them."""
    if found_cuda is not None and found_cuda == (accelerator == "cuda"):
        return ()
    return ("--index-url", TORCH_INDEX + INDEX_FOLDERS[accelerator])
