"""A served model: ready or an error in words, watched while it serves, and never left behind."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from tasks.errors import EnvironmentMissing
from tasks.serving import Server, ServerDied, ServerOptions, vllm_server
from tasks.serving.surroundings import server_environment
from tests.fakes.gpus import fake_gpus

FAKE_VLLM = Path(__file__).parents[1] / "fakes" / "vllm.py"


@pytest.fixture(autouse=True)
def fake_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "tasks.serving.server.vllm_command", lambda: [sys.executable, str(FAKE_VLLM)]
    )
    monkeypatch.setattr("tasks.serving.server.has_nvidia_gpu", lambda: False)


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def serve(tmp_path: Path, behaviour: str = "healthy", **limits: Any) -> Any:
    options = ServerOptions(
        environment={"FAKE_VLLM": behaviour, "FAKE_VLLM_PIDS": str(tmp_path / "pids")}
    )
    return vllm_server(tmp_path, options, tmp_path / "server.log", **limits)


def generate(server: Server, key: str | None = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        f"{server.base_url}/completions",
        data=json.dumps({"model": server.model, "prompt": "a b", "max_tokens": 2}).encode(),
        headers={"Authorization": f"Bearer {key or server.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        document: dict[str, Any] = json.load(response)
    return document


def survivors(pids: Path) -> list[int]:
    return [pid for pid in map(int, pids.read_text().split()) if psutil.pid_exists(pid)]


def test_healthy_server_answers_and_is_gone_afterwards(tmp_path: Path, pids: Path) -> None:
    with serve(tmp_path) as server:
        assert generate(server)["usage"]["completion_tokens"] == 2
        assert server.startup_s > 0
        server.check_alive()
    assert survivors(pids) == []
    assert "'--load-format=safetensors'" in (tmp_path / "server.log").read_text()


def test_only_who_holds_the_key_is_served(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            generate(server, key="wrong")
        arguments = " ".join(psutil.Process(server.pid).cmdline())
        assert server.api_key not in arguments
        assert server.api_key not in repr(server)


def test_server_listens_on_loopback_only(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        addresses = {
            connection.laddr.ip
            for connection in psutil.Process(server.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
    assert addresses == {"127.0.0.1"}


def test_servers_that_start_together_have_ports_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with serve(tmp_path / "a") as first, serve(tmp_path / "b") as second:
        assert first.port != second.port
        assert generate(first)["usage"] == generate(second)["usage"]


def test_reserved_port_is_given_to_nobody_else(tmp_path: Path) -> None:
    """While the server loads, its port is bound already: the system hands it to no other."""
    taken = []

    def grab_ports() -> None:
        for _ in range(200):
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                taken.append(other.getsockname()[1])

    with serve(tmp_path, meanwhile=grab_ports) as server:
        assert server.port not in taken


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("dies at start", "exit status 3\nits log ends:\n.*\n.*no such architecture: Perceptron"),
        ("is killed at start", "was killed by SIGKILL"),
    ],
)
def test_server_that_dies_at_start_is_reported_with_its_last_words(
    tmp_path: Path, behaviour: str, words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(ServerDied, match=words), serve(tmp_path, behaviour):
        pytest.fail("it never served")
    assert time.monotonic() - started < 10


def test_server_without_progress_is_given_up(tmp_path: Path, pids: Path) -> None:
    with (
        pytest.raises(ServerDied, match="made no progress for 2 s"),
        serve(tmp_path, "is silent", stall_limit_s=2.0),
    ):
        pytest.fail("it never served")
    assert survivors(pids) == []


def test_server_that_makes_progress_is_waited_for_until_the_limit(
    tmp_path: Path, pids: Path
) -> None:
    started = time.monotonic()
    with (
        pytest.raises(ServerDied, match="not ready after 3 s"),
        serve(tmp_path, "keeps logging", stall_limit_s=1.0, start_limit_s=3.0),
    ):
        pytest.fail("it never served")
    assert time.monotonic() - started > 3
    assert survivors(pids) == []


def test_server_that_dies_interrupts_a_client_that_would_wait_for_ever(tmp_path: Path) -> None:
    def wait_for_ever() -> None:
        with serve(tmp_path, "dies while serving") as server:
            for _ in range(3):
                generate(server)
            threading.Event().wait(60)

    started = time.monotonic()
    expected = r"exit status 1\nits log has:\n.*core died\nits log ends:"
    with pytest.raises(ServerDied, match=expected):
        wait_for_ever()
    assert time.monotonic() - started < 10


def test_server_that_dies_explains_the_error_of_its_client(tmp_path: Path) -> None:
    def ask_on_and_on() -> None:
        with serve(tmp_path, "dies while serving") as server:
            while True:
                generate(server)

    with pytest.raises(ServerDied, match="engine core died"):
        ask_on_and_on()


def test_clients_error_is_its_own_while_the_server_lives(tmp_path: Path, pids: Path) -> None:
    with pytest.raises(ZeroDivisionError), serve(tmp_path):
        _ = 1 / 0
    assert survivors(pids) == []


def test_interrupt_by_the_user_stays_one_and_stops_the_server(tmp_path: Path, pids: Path) -> None:
    with pytest.raises(KeyboardInterrupt), serve(tmp_path):
        raise KeyboardInterrupt
    assert survivors(pids) == []


@pytest.mark.parametrize("behaviour", ["ignores SIGTERM", "spawns children"])
def test_server_that_resists_is_killed_with_its_children(
    tmp_path: Path, pids: Path, behaviour: str
) -> None:
    with serve(tmp_path, behaviour, grace_s=0.3):
        expected = 3 if behaviour == "spawns children" else 1
        assert len(survivors(pids)) == expected
    assert survivors(pids) == []


def test_loopback_is_reached_without_the_proxy_and_the_environment_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serve(tmp_path) as server:
        assert generate(server)["usage"]["completion_tokens"] == 2
        assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost"
    assert os.environ["no_proxy"] == "example.org"
    assert "NO_PROXY" not in os.environ


def test_callers_variables_do_not_leak_into_the_server() -> None:
    inherited = {
        "VLLM_ATTENTION_BACKEND": "X",
        "PYTHONPATH": "/checkout",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "3",
        "PATH": "/bin",
    }
    options = ServerOptions(environment={"VLLM_LOGGING_LEVEL": "DEBUG"}, kv_cache_space_gib=2)
    environment = server_environment(inherited, options, "key")
    assert not {"VLLM_ATTENTION_BACKEND", "PYTHONPATH", "OMP_NUM_THREADS"} & environment.keys()
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_values_with_commas_and_equals_signs_reach_the_server_whole() -> None:
    value = '{"temperature": 0.5, "stop": "a=b,c"}'
    arguments = ServerOptions(flags={"override-generation-config": value}).arguments(0)
    assert f"--override-generation-config={value}" in arguments


def test_true_is_the_bare_flag_and_false_its_negation() -> None:
    options = ServerOptions(
        flags={"enable-chunked-prefill": True, "async-scheduling": False}, enforce_eager=True
    )
    arguments = options.arguments(0)
    assert {"--enable-chunked-prefill", "--no-async-scheduling", "--enforce-eager"} < {*arguments}


def test_model_is_spread_over_the_gpus_that_the_step_got() -> None:
    assert "--tensor-parallel-size=4" in ServerOptions().arguments(4)
    assert "--tensor-parallel-size=2" in ServerOptions(tensor_parallel_size=2).arguments(4)
    assert "--tensor-parallel-size=1" in ServerOptions().arguments(0)


def test_spelling_of_a_flag_does_not_change_the_spec() -> None:
    assert ServerOptions(flags={"--block_size": 32}) == ServerOptions(flags={"block-size": 32})


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("host", "loopback"),
        ("port", "free port"),
        ("api-key", "random one"),
        ("trust_remote_code", "not run"),
        ("max-num-seqs", "field of its own: max_num_seqs"),
        ("no-enforce-eager", "field of its own: enforce_eager"),
        ("x; rm", "not the name of a flag"),
    ],
)
def test_flags_that_belong_to_the_machinery_are_refused(flag: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServerOptions(flags={flag: True})


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "VLLM_CPU_KVCACHE_SPACE", "lower"])
def test_variables_that_belong_to_the_machinery_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ServerOptions(environment={name: "1"})


def test_a_gpu_build_without_a_gpu_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.serving.server.has_nvidia_gpu", lambda: True)
    monkeypatch.setattr("tasks.serving.server.list_gpus", fake_gpus(0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    expected = r"build for GPUs, and this step is shown none \(CUDA_VISIBLE_DEVICES=''\)"
    with pytest.raises(EnvironmentMissing, match=expected), serve(tmp_path):
        pytest.fail("it never served")
    assert not (tmp_path / "server.log").exists()
