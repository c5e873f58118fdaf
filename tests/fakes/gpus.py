"""A host with as many GPUs as a test wants, none of which exists.

async with claim_gpus(2, home, fake_gpus(4)) as gpus: ...
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.gpus import Gpu


def fake_gpus(num_gpus: int) -> Callable[[], tuple[Gpu, ...]]:
    """What `tasks.gpus.list_gpus` would say on a host with this many GPUs."""
    table = tuple(
        Gpu(index, f"GPU-{index:08x}-0000-0000-0000-000000000000", "Fake H200", 143_771)
        for index in range(num_gpus)
    )
    return lambda: table
