"""Stands in for the `vllm` program: takes its arguments, listens, and misbehaves as it is told.

    python tests/fakes/vllm.py serve MODEL --host=127.0.0.1 --port=8000 --served-model-name=m

The variable FAKE_VLLM names the behaviour (see BEHAVIOURS); FAKE_VLLM_PIDS a file that gets the ids
of the processes it starts, itself included. `install` makes it the serve environment of a home.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

BEHAVIOURS = (
    "healthy",
    "dies at start",  # with words and exit status 3
    "is killed at start",
    "is silent",  # up, idle, never answers
    "keeps logging",  # makes progress, never answers
    "dies while serving",  # after 3 generation requests
    "fails every fifth",  # request, with status 500
    "says line separators",  # of Unicode, which end no line of an event stream
    "ignores SIGTERM",
    "spawns children",  # one in its group, one in a session of its own; both ignore SIGTERM
)
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def note(pid: int) -> None:
    if path := os.environ.get("FAKE_VLLM_PIDS"):
        with open(path, "a") as file:
            file.write(f"{pid}\n")


def install(home: Path) -> None:
    """Make this the `vllm` of the serve environment in a LABWRIGHT_HOME."""
    from infra import pins
    from tests.fakes.installed import lay_down

    environment = pins.serve_environment(home, pins.has_nvidia_gpu())
    programs = environment.folder / "bin"
    programs.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    vllm = programs / "vllm"
    vllm.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__])} "$@"\n')
    vllm.chmod(0o755)
    lay_down(environment)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from openai_server import FakeOpenAI

    behaviour = os.environ.get("FAKE_VLLM", "healthy")
    assert behaviour in BEHAVIOURS, behaviour
    options = dict(a.removeprefix("--").partition("=")[::2] for a in sys.argv[3:])
    note(os.getpid())
    print("fake vllm starts with", sys.argv[1:], flush=True)
    if behaviour == "dies at start":
        print("ValueError: no such architecture: Perceptron", flush=True)
        sys.exit(3)
    if behaviour == "is killed at start":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "is silent":
        time.sleep(600)
    while behaviour == "keeps logging":
        print("loading", flush=True)
        time.sleep(0.05)
    if behaviour in ("ignores SIGTERM", "spawns children"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "spawns children":
        for own_session in (False, True):
            child = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=own_session)
            note(child.pid)
    server = FakeOpenAI(
        model=options["served-model-name"],
        api_key=os.environ["VLLM_API_KEY"],
        port=int(options["port"]),
        first_token_s=0.005,
        replies=["a\u2028b \x85 \x0c\x1d c"] if behaviour == "says line separators" else (),
        fail=lambda index: 500 if behaviour == "fails every fifth" and index % 5 == 4 else None,
    )
    with server:
        while behaviour != "dies while serving" or len(server.requests) < 3:
            time.sleep(0.02)
        print("RuntimeError: engine core died", flush=True)
        print(*("orderly shutdown" for _ in range(30)), sep="\n", flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
