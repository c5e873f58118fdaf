"""What an import loads and what it costs: `labwright validate` and every body wait for it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import time

import pytest

import tasks

HEAVY = (
    "torch",
    "transformers",
    "prefect",
    "llmcompressor",
    "lm_eval",
    "guidellm",
    "datasets",
    "matplotlib",
    "vllm",
    "optuna",
)
LOADED_LATER = (*HEAVY, "numpy", "scipy")  # by bodies and pages
LIBRARY = "flows.compress_and_evaluate, flows.experiment"  # what a user's program imports
NUM_ROUNDS = 2
AIM_S = 0.3
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg)


@pytest.mark.parametrize("names", [[f"tasks.{name}" for name in PACKAGES], ["flows"]])
def test_importing_steps_and_flows_loads_nothing_heavy(names: list[str]) -> None:
    assert names
    code = (
        f"import importlib, sys\n"
        f"for name in {names}:\n"
        f"    importlib.import_module(name)\n"
        f"    heavy = [module for module in {HEAVY} if module in sys.modules]\n"
        f"    assert not heavy, f'{{name}} loads {{heavy}}'\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_the_library_loads_nothing_heavy_but_prefect() -> None:
    code = (
        f"import sys, {LIBRARY}\n"
        f"heavy = [module for module in {LOADED_LATER} if module in sys.modules]\n"
        f"assert heavy == ['prefect'], heavy\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_import_cost() -> None:
    """`flows` is loaded on top of Prefect, as a run loads it; Prefect loads `flow` when asked."""
    codes = {
        "python": "pass",
        "prefect": "import prefect",
        "prefect, flows": "import prefect, flows",
        "flows": "import flows",
        "Prefect's flow": "from prefect import flow",
        "… and the library": f"from prefect import flow; import {LIBRARY}",
        "every step": "import " + ", ".join(f"tasks.{name}" for name in PACKAGES),
        "a body's frame": "import tasks.body",
    }
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(NUM_ROUNDS):  # in turns, so that a busy machine slows all
        for name, code in codes.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-P", "-c", code], check=True)
            seconds[name].append(time.perf_counter() - started)
    best = {name: min(found) for name, found in seconds.items()}
    print(f"\nimport, best of {NUM_ROUNDS}         s   ratio to python")
    for name, found in best.items():
        print(f"  {name:16} {found:12.3f}   {found / best['python']:10.1f}")
    over = best["prefect, flows"] - best["prefect"]
    library = best["… and the library"] - best["Prefect's flow"]
    print(f"  flows over prefect {over:10.3f}   (aim: {AIM_S:g})")
    print(f"  the library over its flow {library:.3f}   (aim: {AIM_S:g})")
