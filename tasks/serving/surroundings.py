"""What a server finds around it: its environment variables, its port, and clients that reach it.

with loopback_without_proxy(), reserved_port() as port:
    Popen([..., f"--port={port}"], env=server_environment(os.environ, options, key))
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping

from tasks.serving.options import ServerOptions
from tasks.settings import settings

# Variables of the caller's that would change what the server does, or which interpreter files it
# finds. What is meant to be set stands in the options.
FOREIGN_PREFIXES = ("VLLM_", "PYTHON", "OMP_", "MKL_", "TORCH", "VIRTUAL_ENV")


def server_environment(
    inherited: Mapping[str, str], options: ServerOptions, api_key: str
) -> dict[str, str]:
    """The server's variables: the caller's, less what would leak into it, plus ours."""
    cache = settings().home / "cache"
    kept = {
        name: value for name, value in inherited.items() if not name.startswith(FOREIGN_PREFIXES)
    }
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(cache / "huggingface"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(options.kv_cache_space_gib),
        "PYTHONUNBUFFERED": "1",  # so that a killed server's last words are in its log
        **options.environment,
        "VLLM_API_KEY": api_key,
    }


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that stays ours: bound and not listening, so that the server may bind it as well."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        yield int(reservation.getsockname()[1])


@contextlib.contextmanager
def loopback_without_proxy() -> Iterator[None]:
    """Keep this process's HTTP clients from sending requests for the server to a proxy."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, (value, "127.0.0.1", "localhost")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
