"""Start, find, stop and describe the embedded Prefect server.

    api_url = ensure_server()      # the API to use: the user's own, or ours, started if need be
    start_server(); stop_server(); server_condition()

Ours listens on loopback, keeps its database in `LABWRIGHT_HOME`, is started detached by the first
run that needs it and found by the next. Whoever starts holds a lock, so that two runs share one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.server.state import (
    HOST,
    ServerCondition,
    ServerState,
    process_start_ticks,
    read_state,
)
from tasks.errors import LabwrightError
from tasks.settings import settings
from tasks.store.failures import in_words

START_TIMEOUT_S = 180.0  # first start on a busy machine: the database is made
STOP_TIMEOUT_S = 15.0
POLL_S = 0.1
MAX_RETRIES = "3"  # 14 s in all, by when a server is back; Prefect's default makes it a minute
NUM_LOG_LINES = 15
LOG_NAME = "server.log"
OURS = "LABWRIGHT_SERVER_URL"  # which PREFECT_API_URL is our doing, for us and our children
# In the server's working directory, the home: a path in the URL must hold no `?`.
DATABASE_URL = "sqlite+aiosqlite:///prefect.db"


class ServerNotStarted(LabwrightError):
    """The embedded server did not come up; carries the end of its log."""


def configured_api() -> str | None:
    """The API that the user chose: in the environment, in Prefect, or in its active profile.

    Not one that `ensure_server` has set: our server may have ended since.
    """
    ours = os.environ.get(OURS)
    for url in (os.environ.get("PREFECT_API_URL"), _known_to_prefect()):
        if url and url != ours:
            return url
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return url if isinstance(url, str) else None


def ensure_server(is_wanted: Callable[[], bool] = lambda: True) -> str:
    """The URL of the API to use, set for this process; starts our server if there is no other.

    Call it before each flow: a server that was ours may have ended, and come back on another port.
    `ServerNotStarted` soon after it `is_wanted` no more.
    """
    url = configured_api()
    if url is None:
        url = os.environ[OURS] = start_server(is_wanted).api_url
        # What Prefect's client keeps of its own lies with the rest of what is the user's.
        os.environ.setdefault("PREFECT_HOME", str(settings().home / "prefect"))
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", MAX_RETRIES)
    if _known_to_prefect() != url:
        os.environ["PREFECT_API_URL"] = url
        _let_prefect_read_its_settings()
    return url


def _known_to_prefect() -> str | None:
    """The API that Prefect uses in this process; None before it is imported."""
    if "prefect" not in sys.modules:
        return None
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    return None if url is None else str(url)


def _let_prefect_read_its_settings() -> None:
    """It does so when it is imported, which may have been before."""
    if "prefect" not in sys.modules:
        return
    from prefect.context import refresh_global_settings_context
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    refresh_global_settings_context()
    for worker in (EventsWorker, APILogWorker):  # they would go on talking to the API before
        # In a thread of its own, as it returns a coroutine where a loop runs.
        stopping = threading.Thread(target=worker.drain_all, args=(0,))
        stopping.start()
        stopping.join()


def server_condition() -> tuple[ServerCondition, ServerState | None]:
    """What there is now, without changing it."""
    state = read_state(settings().home)
    return (ServerCondition.ABSENT, None) if state is None else (state.condition(), state)


def will_start() -> bool:
    """Whether the next `ensure_server` has to start one, or to wait for one: that takes seconds."""
    return configured_api() is None and server_condition()[0] is not ServerCondition.READY


def port_words() -> str:
    """That our server could not have the port of the settings, where it is so."""
    wanted, (_, state) = settings().server_port, server_condition()
    if state is None or state.port == wanted:
        return ""
    return f"port {wanted} is taken: the Prefect server is at {state.ui_url}"


def start_server(is_wanted: Callable[[], bool] = lambda: True) -> ServerState:
    """Our server, found or started; raises `ServerNotStarted` with the end of its log.

    One that has lived for longer than a start takes, and does not answer, hangs: it is replaced.
    """
    home = settings().home
    with _starting(home, is_wanted):
        condition, state = server_condition()
        if state is not None and condition is ServerCondition.READY:
            return state
        if state is not None and condition is ServerCondition.STARTING:
            rest_s = START_TIMEOUT_S - state.age_s()
            if rest_s > 0:
                return _wait_until_ready(home, state.pid, rest_s, is_wanted)
            _end(state)
        (home / "server.json").unlink(missing_ok=True)
        return _launch(home, is_wanted)


def stop_server() -> bool:
    """End our server and wait until it is gone; False if none was running."""
    home = settings().home
    with _starting(home):
        condition, state = server_condition()
        if state is None or condition is ServerCondition.STALE:
            (home / "server.json").unlink(missing_ok=True)
            return False
        _end(state)
        (home / "server.json").unlink(missing_ok=True)
        return True


def _end(state: ServerState) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        if _wait_until_gone(state):
            return


@contextlib.contextmanager
def _starting(home: Path, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """One at a time may start or stop."""
    with in_words("start or stop the server", home, home):
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "server.lock").open("w")
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _refuse_unwanted(is_wanted)
                time.sleep(POLL_S)
        yield


def _refuse_unwanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise ServerNotStarted("the embedded Prefect server is not wanted any more")


def _launch(home: Path, is_wanted: Callable[[], bool]) -> ServerState:
    port = _free_port(settings().server_port)
    log = home / "logs" / LOG_NAME
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.server.process", str(home), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            env=_server_environment(home, port),
            start_new_session=True,  # it outlives the run that starts it, and its terminal
        )
    try:
        return _wait_until_ready(home, process.pid, START_TIMEOUT_S, is_wanted)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _server_environment(home: Path, port: int) -> dict[str, str]:
    """Prefect's settings for our server; whatever else the user set for Prefect is left out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "LABWRIGHT_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": DATABASE_URL,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # no telemetry, and no error without network
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }


def _free_port(preferred: int) -> int:
    """The preferred port unless somebody else listens there, then any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServerNotStarted(f"no port is free on {HOST}")


def _wait_until_ready(
    home: Path, pid: int, timeout_s: float, is_wanted: Callable[[], bool]
) -> ServerState:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        _refuse_unwanted(is_wanted)
        state = read_state(home)
        if state is not None and state.pid == pid and state.answers():
            return state
        if process_start_ticks(pid) is None:
            break
        time.sleep(POLL_S)
    log = home / "logs" / LOG_NAME
    lines = log.read_text(errors="replace").splitlines()[-NUM_LOG_LINES:] if log.exists() else []
    raise ServerNotStarted(
        "the embedded Prefect server did not start; the end of "
        f"{log}:\n  " + "\n  ".join(lines or ["(empty)"])
    )


def _wait_until_gone(state: ServerState) -> bool:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        if process_start_ticks(state.pid) != state.start_ticks:
            return True
        time.sleep(POLL_S)
    return False
