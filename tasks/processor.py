"""What a machine's processor is called: records tell it, and a class of hardware is named by it.

cpu_model()     # 'AMD EPYC 9755 128-Core Processor'
"""

from __future__ import annotations

import os
from pathlib import Path


def cpu_model() -> str:
    """The processor's name as the kernel tells it, else the architecture's."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return os.uname().machine
