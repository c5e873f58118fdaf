"""A home of the tests' own, one server for all that want Prefect, and proof that nothing is left.

Every test runs in a LABWRIGHT_HOME that is made for the session and removed after it; `home` gives
a test one of its own. The serve environment alone is the user's, found through a link. When the
session ends, a process that still carries its mark is ended and reported as an error.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.pins import labwright_home

ROOT = Path(__file__).parents[1]
MARK = "LABWRIGHT_TEST_SESSION"

pytest_plugins = ("tests.fakes.figures", "tests.fakes.quickstart", "tests.fakes.tiny_model")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported, as Prefect reads its settings then."""
    users_home = labwright_home()
    session_home = Path(tempfile.mkdtemp(prefix="labwright-tests-"))
    config.stash[_HOME] = session_home
    (session_home / "envs").symlink_to(users_home / "envs")
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "LABWRIGHT_"))]:
        del os.environ[name]
    os.environ |= {
        MARK: uuid.uuid4().hex,
        "LABWRIGHT_HOME": str(session_home),
        "LABWRIGHT_SERVER_PORT": str(free_port()),
        "PREFECT_HOME": str(session_home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "1",  # else a test's dead server is asked for a minute
        # Bodies run with `-P`; the fakes among them lie here.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


_HOME = pytest.StashKey[Path]()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """The last fixture to end: a process that a test left behind is an error of the session."""
    yield
    left = {pid: command for pid in marked_processes() if (command := _command_of(pid))}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes were left behind: {left}"


@pytest.fixture(scope="session")
def session_home(pytestconfig: pytest.Config) -> Path:
    """The home that tests share unless they ask for one of their own."""
    return pytestconfig.stash[_HOME]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LABWRIGHT_HOME for one test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("LABWRIGHT_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def prefect_server(session_home: Path, nothing_is_left: None) -> Iterator[str]:
    """The URL of a real embedded server, the same for all tests, also for their child processes."""
    from flows.server import start_server, stop_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABWRIGHT_HOME", str(session_home))
        url = start_server().api_url
        patch.setenv("PREFECT_API_URL", url)
        _tell_prefect()
        try:
            yield url
        finally:
            _let_prefect_finish()
            patch.setenv("LABWRIGHT_HOME", str(session_home))
            stop_server()
    _tell_prefect()


def _tell_prefect() -> None:
    """Prefect reads the environment when it is imported; here it may have been."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _let_prefect_finish() -> None:
    """What it still has to tell the server; later it would try for a minute."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=5)
        EventsWorker.drain_all(timeout=5)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def marked_processes() -> list[int]:
    """Living processes, other than this one, that inherited the mark of this test session."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            is_marked = mark in (entry / "environ").read_bytes().split(b"\0")
            is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if is_marked and not is_zombie:
            found.append(int(entry.name))
    return found


def _command_of(pid: int) -> str:
    """The command line; empty if it has ended, or is multiprocessing's own helper of this one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
    return "" if "multiprocessing.resource_tracker" in command else command
