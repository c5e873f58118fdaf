"""Which interpreter runs what, and what is said when it is not there."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from infra import pins
from tasks import environments
from tasks.errors import EnvironmentMissing
from tests.fakes.installed import lay_down
from tests.fakes.quickstart import demand_serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path))
    return tmp_path


def make_serve(home: Path, has_gpu: bool) -> pins.Environment:
    environment = pins.serve_environment(home, has_gpu)
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    lay_down(environment)
    environment.remove_stamp()
    return environment


def test_bodies_run_in_the_interpreter_of_labwright() -> None:
    assert environments.core_python() == Path(sys.executable)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_vllm_is_started_from_the_environment_of_this_machines_lock(
    home: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool
) -> None:
    monkeypatch.setattr(pins, "has_nvidia_gpu", lambda: has_gpu)
    environment = make_serve(home, has_gpu)
    environment.write_stamp()
    assert environments.vllm_command() == [str(environment.folder / "bin" / "vllm")]
    assert environments.installed_version("VLLM", "serve") == "0.32.0"


def test_missing_serve_environment_says_what_to_type(home: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=r"is absent; type `make setup`"):
        environments.vllm_command()


def test_half_made_serve_environment_is_not_used(home: Path) -> None:
    make_serve(home, pins.has_nvidia_gpu())
    with pytest.raises(EnvironmentMissing, match=r"is half-made; type `make setup`"):
        environments.vllm_command()


@pytest.mark.parametrize("state", ["absent", "half-made"])
def test_the_tests_of_the_main_job_fail_and_are_not_skipped_without_it(
    home: Path, state: str
) -> None:
    if state == "half-made":
        make_serve(home, pins.has_nvidia_gpu())
    with pytest.raises(pytest.fail.Exception, match=f"THE MAIN JOB IS NOT TESTED: .* is {state}"):
        demand_serving()


def test_versions_are_locked_without_local_parts_in_both_environments() -> None:
    core, serve = environments.read_lock("core"), environments.read_lock("serve")
    assert core["torch"] == importlib.metadata.version("torch").partition("+")[0]
    assert "vllm" not in core
    assert serve["vllm"].startswith("0.")
    assert not any("+" in version for version in (*core.values(), *serve.values()))


def test_vllm_has_one_name_and_version_whichever_build_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = set()
    for has_gpu in (False, True):
        monkeypatch.setattr(pins, "has_nvidia_gpu", lambda has_gpu=has_gpu: has_gpu)
        environments.read_lock.cache_clear()
        versions.add(environments.read_lock("serve")["vllm"])
    environments.read_lock.cache_clear()
    assert len(versions) == 1


def test_lock_that_is_not_there_is_missed_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pins, "LOCKS", tmp_path)
    environments.read_lock.cache_clear()
    with pytest.raises(EnvironmentMissing, match=r"core\.txt; type `make setup`"):
        environments.read_lock("core")
    environments.read_lock.cache_clear()


def test_installed_version_has_no_local_part_and_is_absent_where_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.13.0+cpu")
    assert environments.installed_version("torch") == "2.13.0"
    monkeypatch.undo()
    assert environments.installed_version("no-such-package") is None


def test_environments_are_known_without_anything_heavy() -> None:
    heavy = ("torch", "prefect", "transformers", "vllm")
    code = f"import sys, tasks.environments; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.check_output([sys.executable, "-P", "-c", code], text=True)
    assert told.strip() == "[]"
