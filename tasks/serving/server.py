"""The life of one vLLM server: started, waited for, watched, and always stopped.

    with vllm_server(model, options, log) as server:
        ...                       # a server that dies meanwhile raises ServerDied here

- Its port is reserved before it starts, on loopback; a random key keeps everybody else out.
- The wait for it ends when it answers, when it dies, when it makes no progress (neither log nor CPU
  time) for `stall_limit_s`, or at `start_limit_s`. Nothing sleeps a fixed time and hopes.
- While the block runs, a thread waits for the server's death and interrupts the main thread, so
  that no client hangs on a dead server; the error quotes the log's last lines.
- At the end, also by an exception, SIGTERM goes to the server, which ends its engine processes;
  what is left of its process group and its descendants after `grace_s` is killed.

It does not survive the body: the supervisor that runs the body ends what the body left behind.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.pins import has_nvidia_gpu
from tasks.environments import vllm_command
from tasks.errors import EnvironmentMissing, LabwrightError
from tasks.gpus import list_gpus
from tasks.serving.options import ServerOptions
from tasks.serving.surroundings import (
    loopback_without_proxy,
    reserved_port,
    server_environment,
)

START_LIMIT_S = 1800.0  # large models take minutes to load and to compile
STALL_LIMIT_S = 180.0
GRACE_S = 15.0
POLL_S = 0.1
SETTLE_S = 0.5  # from a broken connection to the exit of the server that broke it
PROGRESS_CPU_S = 0.5  # CPU time that counts as progress; an idle server uses milliseconds a second
LAST_BYTES = 200_000  # of the log, searched for errors
NUM_FIRST_ERRORS = 5
NUM_LAST_LINES = 10
MAX_LINE = 300  # characters
ERROR_LINE = re.compile(r"(\(\w+ pid=\d+\) )?(ERROR |\w+(Error|Exception): )")


class ServerDied(LabwrightError):
    """The server ended, or never came up; says how, with the last lines of its log."""


@dataclass
class Server:
    """A running server. `api_key` goes into every request as a bearer token."""

    model: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    api_key: str = field(repr=False)
    startup_s: float = 0.0
    has_died: bool = False

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        return self.process.pid

    def check_alive(self) -> None:
        """Raise ServerDied if the server is gone."""
        if self.has_died or self.process.poll() is not None:
            self.has_died = True
            raise ServerDied(f"the vLLM server {self._how_it_ended()}{self.last_words()}")

    def last_words(self) -> str:
        """The end of the log, for an error message; before it, errors that it does not show.

        The first errors are the cause: what follows is often a page of orderly shutdown.
        """
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        earlier, last = lines[:-NUM_LAST_LINES], lines[-NUM_LAST_LINES:]
        errors = [line for line in earlier if ERROR_LINE.match(line)]
        parts = {"its log has": errors[:NUM_FIRST_ERRORS], "its log ends": last}
        return "".join(
            f"\n{title}:\n" + "\n".join(f"  {line[:MAX_LINE]}" for line in quoted)
            for title, quoted in parts.items()
            if quoted
        )

    def _how_it_ended(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"


@contextlib.contextmanager
def vllm_server(
    model: Path,
    options: ServerOptions,
    log: Path,
    name: str = "m",
    *,
    meanwhile: Callable[[], None] | None = None,
    start_limit_s: float = START_LIMIT_S,
    stall_limit_s: float = STALL_LIMIT_S,
    grace_s: float = GRACE_S,
) -> Iterator[Server]:
    """Serve a model folder as `name` until the block ends.

    `meanwhile` runs while the server starts, for what the caller has to load anyway. Raises
    ServerDied, or EnvironmentMissing where there is no serve environment, or no GPU for it.
    """
    num_gpus = _num_gpus()
    with loopback_without_proxy(), reserved_port() as port:
        key = secrets.token_hex(24)
        command = [*vllm_command(), "serve", str(model), "--host=127.0.0.1", f"--port={port}"]
        command += [f"--served-model-name={name}", "--disable-uvicorn-access-log"]
        command += ["--load-format=safetensors"]
        command += options.arguments(num_gpus)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=server_environment(os.environ, options, key),
                process_group=0,
            )
        server = Server(name, port, log, process, key)
        try:
            with _stopped_at_the_end(server, grace_s):
                _wait_until_ready(server, meanwhile, start_limit_s, stall_limit_s)
                with _watched(server):
                    yield server
                    server.check_alive()
        except (Exception, KeyboardInterrupt) as error:
            if server.has_died and not isinstance(error, ServerDied):
                server.check_alive()
            raise


def _num_gpus() -> int:
    """How many the server gets; EnvironmentMissing if it needs one and is shown none."""
    num_gpus = len(list_gpus())
    if has_nvidia_gpu() and num_gpus == 0:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise EnvironmentMissing(
            "vLLM is installed here in its build for GPUs, and this step is shown none "
            f"(CUDA_VISIBLE_DEVICES={shown!r}): set device_kind: cuda or placement.gpus"
        )
    return num_gpus


def _wait_until_ready(
    server: Server,
    meanwhile: Callable[[], None] | None,
    start_limit_s: float,
    stall_limit_s: float,
) -> None:
    started = time.monotonic()
    if meanwhile is not None:
        meanwhile()
    progress_at, seen = time.monotonic(), _signs_of_life(server)
    while not _answers(server):
        server.check_alive()
        now, signs = time.monotonic(), _signs_of_life(server)
        if signs[0] > seen[0] or signs[1] > seen[1] + PROGRESS_CPU_S:
            progress_at, seen = now, signs
        if now - progress_at > stall_limit_s:
            raise ServerDied(
                f"the vLLM server made no progress for {stall_limit_s:g} s{server.last_words()}"
            )
        if now - started > start_limit_s:
            raise ServerDied(
                f"the vLLM server was not ready after {start_limit_s:g} s{server.last_words()}"
            )
        time.sleep(POLL_S)
    server.startup_s = time.monotonic() - started


def _signs_of_life(server: Server) -> tuple[int, float]:
    """Size of the log, and CPU seconds that the server's processes have used."""
    cpu_s = 0.0
    for process in _descendants(server.pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu_s += times.user + times.system
    return server.log.stat().st_size, cpu_s


def _answers(server: Server) -> bool:
    """Whether our server lists our model; the key makes sure that it is no other one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        connection.request("GET", "/v1/models", headers=headers)
        response = connection.getresponse()
        listed = json.loads(response.read()) if response.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return any(model.get("id") == server.model for model in listed.get("data", ()))


@contextlib.contextmanager
def _watched(server: Server) -> Iterator[None]:
    """Interrupt the main thread, if that is where the block runs, when the server dies.

    A signal, not a flag: clients block in sockets, locks and event loops, and all of these give way
    to SIGINT. `vllm_server` turns the KeyboardInterrupt into ServerDied.
    """
    lock = threading.Lock()
    is_over = False
    in_main_thread = threading.current_thread() is threading.main_thread()

    def watch() -> None:
        server.process.wait()
        with lock:
            if is_over:
                return
            server.has_died = True
            if in_main_thread:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler) if in_main_thread else None
    watcher = threading.Thread(target=watch, name="vllm-watch", daemon=True)
    watcher.start()
    try:
        yield
    except Exception:
        with lock:
            is_over = True
        with contextlib.suppress(subprocess.TimeoutExpired):  # clients notice a death first
            server.process.wait(SETTLE_S)
            server.has_died = True
        raise
    finally:
        with lock:
            is_over = True
        if in_main_thread:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _stopped_at_the_end(server: Server, grace_s: float) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            _stop(server, grace_s)
        except KeyboardInterrupt:  # a second Ctrl-C must not leave a server behind
            _stop(server, 0.0)
            raise


def _stop(server: Server, grace_s: float) -> None:
    """SIGTERM to the server, then SIGKILL to whatever is left of its group and descendants."""
    family = _descendants(server.pid)
    if server.process.poll() is None:
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(grace_s)
    psutil.wait_procs(family, timeout=min(grace_s, 2.0))  # its resource tracker cleans up
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()  # psutil checks that the id is still the same process
    server.process.wait()
    psutil.wait_procs(family, timeout=5)


def _descendants(pid: int) -> Sequence[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []
