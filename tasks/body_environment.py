"""The environment variables of a body: the caller's without Prefect's, its placement's, its GPUs'.

body_environment(os.environ, placement, gpus, home)["LABWRIGHT_HOME"]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.gpus import Gpu, visible_devices
from tasks.host import WITHIN
from tasks.spec import Placement

# Threads of two bodies side by side would spin against each other for most of their time; with few
# spins before they sleep, each is as fast as its share, and a body alone loses little.
OPENMP_SPINS = 10_000

# What libraries would otherwise leave all over a user's home.
CACHES = {
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "xdg",
}


def body_environment(
    inherited: Mapping[str, str], placement: Placement, gpus: Iterable[Gpu], home: Path
) -> dict[str, str]:
    """Everything that a body finds in `os.environ`; it sees exactly the given GPUs."""
    environment = {k: v for k, v in inherited.items() if not k.startswith("PREFECT_")}
    environment.setdefault("GOMP_SPINCOUNT", str(OPENMP_SPINS))
    for variable, folder in CACHES.items():
        environment.setdefault(variable, str(home / "cache" / folder))
    environment |= placement.environment
    environment |= visible_devices(gpus)
    environment |= {"LABWRIGHT_HOME": str(home), WITHIN: str(home), "PYTHONUNBUFFERED": "1"}
    environment |= {"TOKENIZERS_PARALLELISM": "false"}
    return environment
