"""A vLLM server for the length of a `with` block, spoken to over HTTP by the body that started it.

    with vllm_server(model, ServerOptions(max_model_len=512), out / "server.log") as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        post(f"{server.base_url}/completions", headers=headers, json={"model": server.model, …})

`options.py` says what a server may be told (part of specs), `server.py` how one lives and dies.
"""

from tasks.serving.options import ServerOptions
from tasks.serving.server import Server, ServerDied, vllm_server

__all__ = ["Server", "ServerDied", "ServerOptions", "vllm_server"]
