"""Claims about the embedded Prefect server, each against a real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import (
    ServerCondition,
    configured_api,
    control,
    ensure_server,
    server_condition,
    start_server,
    stop_server,
)
from flows.server.control import OURS
from flows.server.state import process_start_ticks

START = "from flows.server import start_server; s = start_server(); print(s.pid, s.port)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own with a difficult name, on a port of its own; what runs there is stopped."""
    folder = tmp_path / "home? 100%"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("LABWRIGHT_HOME", str(folder))
    monkeypatch.setenv("LABWRIGHT_SERVER_PORT", str(port))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    yield folder
    stop_server()


def test_two_runs_that_start_at_once_share_one_server_and_stop_leaves_nothing(home: Path) -> None:
    assert server_condition() == (ServerCondition.ABSENT, None)
    starters = [
        subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = {starter.communicate(timeout=200)[0] for starter in starters}
    assert len(told) == 1
    assert (home / "prefect.db").exists()
    pid = int(told.pop().split()[0])
    condition, state = server_condition()
    assert condition is ServerCondition.READY
    assert state is not None
    assert state.pid == pid
    assert start_server() == state, "a later run finds it again"
    assert stop_server()
    assert process_start_ticks(pid) is None
    assert server_condition() == (ServerCondition.ABSENT, None)


def test_a_foreign_server_on_the_port_is_left_alone_and_an_idle_one_of_ours_ends(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_SERVER_IDLE_MINUTES", "0.05")
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", int(os.environ["LABWRIGHT_SERVER_PORT"])))
        foreign.listen()
        state = start_server()
        assert state.port != foreign.getsockname()[1]
    deadline = time.monotonic() + 60
    while process_start_ticks(state.pid) is not None:
        assert time.monotonic() < deadline, "the idle server did not end"
        time.sleep(0.2)
    assert server_condition() == (ServerCondition.ABSENT, None)


def test_a_stale_file_is_recognised_even_if_its_pid_is_anothers_now(home: Path) -> None:
    stale = {"port": 1, "pid": os.getpid(), "start_ticks": 1, "token": "left by a power cut"}
    (home / "server.json").write_text(json.dumps(stale))
    condition, _ = server_condition()
    assert condition is ServerCondition.STALE
    assert stop_server() is False, "nobody is signalled"
    assert not (home / "server.json").exists()


def test_a_server_that_hangs_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    threading.Thread(target=hanging.wait, daemon=True).start()  # or it would stay as a zombie
    ticks = process_start_ticks(hanging.pid)
    state = {"port": 1, "pid": hanging.pid, "start_ticks": ticks, "token": "ours"}
    (home / "server.json").write_text(json.dumps(state))
    assert server_condition()[0] is ServerCondition.STARTING
    monkeypatch.setattr(control, "START_TIMEOUT_S", 0.0)

    class LaunchedError(Exception):
        """A server would be started now."""

    def launch(*_: object) -> None:
        raise LaunchedError

    monkeypatch.setattr(control, "_launch", launch)
    with pytest.raises(LaunchedError):
        start_server()
    assert process_start_ticks(hanging.pid) is None
    assert not (home / "server.json").exists()


def test_an_api_that_the_user_configured_is_used_instead(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(home))
    # The server that other tests share is configured in this process.
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(control, "_known_to_prefect", lambda: None)
    assert configured_api() is None
    (home / "profiles.toml").write_text(
        'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    )
    assert configured_api() == "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:8/api")
    assert configured_api() == "http://127.0.0.1:8/api"


RUNS_AFTER_A_SERVER_ENDED = """
import asyncio, os, sys
from pathlib import Path
import prefect
from flows.experiment import load_experiment, run_experiment
from flows.server import configured_api

report = asyncio.run(run_experiment(load_experiment(Path(sys.argv[1]))))
assert configured_api() is None, "what we set is not what the user chose"
print(report.status, list(report.problems), os.environ["PREFECT_API_URL"])
"""


def test_a_process_that_outlives_its_server_finds_the_next_and_tells_prefect(
    session_home: Path, prefect_server: str, tmp_path: Path
) -> None:
    gone = "http://127.0.0.1:9/api"
    leftover = {"PREFECT_API_URL": gone, OURS: gone, "LABWRIGHT_HOME": str(session_home)}
    file = tmp_path / "file.yaml"
    file.write_text("steps: {a: {kind: command, script: echo outlived, inputs: {}}}")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", RUNS_AFTER_A_SERVER_ENDED, str(file)],
        env={**os.environ, **leftover},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == f"done [] {prefect_server}"
    assert "Unable to connect" not in ran.stderr, "Prefect talks to the server that there is"


def test_an_api_that_prefect_itself_was_told_of_is_the_users_choice(home: Path) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:7/api"}):
        assert configured_api() == ensure_server() == "http://127.0.0.1:7/api"
    assert "PREFECT_API_URL" not in os.environ
