"""The class of hardware that a measurement holds for, e.g. `cpu-amd-epyc-2` or `gpu-nvidia-h200-1`.

Two machines of one class answer for each other; nothing finer (clock, temperature, neighbours) is
told apart. The count is of what the step may use: GPUs it was given, or CPU cores.

    spec.hardware == "this machine"     # in a file; becomes the class when the spec is made
"""

from __future__ import annotations

import functools
import os
import re
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints

from tasks.errors import EnvironmentMissing
from tasks.gpus import list_gpus
from tasks.processor import cpu_model

THIS_MACHINE = "this machine"


def found_class() -> str:
    """The class of what this process may use; ValueError if its GPUs differ."""
    gpus = list_gpus()
    if not gpus:
        return f"cpu-{_slug(cpu_model())}-{len(os.sched_getaffinity(0))}"
    names = {gpu.name for gpu in gpus}
    if len(names) > 1:
        raise ValueError(f"GPUs of several kinds have no class: {', '.join(sorted(names))}")
    return f"gpu-{_slug(names.pop())}-{len(gpus)}"


@functools.cache
def this_machine() -> str:
    """What a step placed here without further words will find: one GPU where there is any.

    Asked once a process: every spec wants to know, and no machine becomes another.
    """
    gpus = list_gpus()
    return f"gpu-{_slug(gpus[0].name)}-1" if gpus else found_class()


def _slug(name: str) -> str:
    """`AMD EPYC(TM) 9755 128-Core Processor` -> `amd-epyc-9755`."""
    plain = re.sub(r"\((r|tm)\)|@.*|\b(\d+-core )?(processor|cpu)\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _resolved(value: object) -> object:
    if value != THIS_MACHINE:
        return value
    try:
        return this_machine()
    except EnvironmentMissing as error:
        raise ValueError(f"the class of this machine is not known: {error}") from error


HardwareClass = Annotated[
    str,
    StringConstraints(pattern=r"^(cpu|gpu)-[a-z0-9-]+-[1-9][0-9]*$"),
    BeforeValidator(_resolved),
]
