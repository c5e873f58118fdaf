"""An OpenAI-compatible server that does what a test tells it to; standard library only.

It answers `/health`, `/v1/models`, `/v1/completions` and `/v1/chat/completions` (streamed or
whole), paced by `first_token_s` and `token_s`, and keeps every request it saw. Replies come from
`replies` in turn; without them it produces as many words as the request asks for tokens.

    with FakeOpenAI(first_token_s=0.01, fail=lambda n: 500 if n == 3 else None) as server:
        httpx.post(f"{server.base_url}/chat/completions", json={...})
        server.requests[0]["max_tokens"]
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def never(_index: int) -> int | None:
    return None


class FakeOpenAI:
    """Serves while the context is open; `requests` holds the bodies of generation requests."""

    def __init__(
        self,
        *,
        model: str = "m",
        replies: Sequence[str] = (),
        first_token_s: float = 0.002,
        token_s: float = 0.0005,
        api_key: str | None = None,
        fail: Callable[[int], int | None] = never,  # index of a request -> HTTP status, or None
        raw: bytes | None = None,  # answer with these bytes instead, whatever they are
        port: int = 0,
    ):
        self.model = model
        self.replies = list(replies)
        self.first_token_s = first_token_s
        self.token_s = token_s
        self.api_key = api_key
        self.fail = fail
        self.raw = raw
        self.requests: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def accept(self, body: dict[str, Any]) -> int:
        """Keep a request and return its index."""
        with self._lock:
            self.requests.append(body)
            return len(self.requests) - 1

    def tokens(self, index: int, body: dict[str, Any]) -> list[str]:
        if self.replies:
            return self.replies[index % len(self.replies)].split(" ")
        count = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        return [f"w{number}" for number in range(int(count))]


def _num_prompt_tokens(body: dict[str, Any]) -> int:
    prompt = body.get("prompt") or " ".join(
        json.dumps(message["content"]) for message in body.get("messages", [])
    )
    return len(str(prompt).split())


def _handler(server: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            """Tests read `server.requests`; an access log would only be noise."""

        def answer(self, status: int, document: object) -> None:
            self.send_bytes(status, json.dumps(document).encode())

        def send_bytes(self, status: int, payload: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def is_authorized(self) -> bool:
            expected = server.api_key
            return expected is None or self.headers.get("Authorization") == f"Bearer {expected}"

        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(200, {})
            elif not self.is_authorized():
                self.answer(401, {"error": "Unauthorized"})
            elif self.path == "/v1/models":
                models = [{"id": server.model, "object": "model"}]
                self.answer(200, {"object": "list", "data": models})
            else:
                self.answer(404, {"error": f"no such path: {self.path}"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.is_authorized():
                return self.answer(401, {"error": "Unauthorized"})
            if self.path not in ("/v1/chat/completions", "/v1/completions"):
                return self.answer(404, {"error": f"no such path: {self.path}"})
            index = server.accept(body)
            if status := server.fail(index):
                return self.answer(status, {"error": {"message": "told to fail"}})
            if server.raw is not None:
                return self.send_bytes(200, server.raw)
            tokens = server.tokens(index, body)
            usage = {
                "prompt_tokens": _num_prompt_tokens(body),
                "completion_tokens": len(tokens),
                "total_tokens": _num_prompt_tokens(body) + len(tokens),
            }
            if body.get("stream"):
                return self.stream_tokens(index, tokens, usage)
            time.sleep(server.first_token_s + server.token_s * (len(tokens) - 1))
            choice = self.choice(" ".join(tokens), "stop", "message")
            return self.answer(200, {**self.envelope(index), "choices": [choice], "usage": usage})

        def envelope(self, index: int) -> dict[str, Any]:
            chat = self.path.endswith("/chat/completions")
            kind = "chat.completion" if chat else "text_completion"
            return {"id": f"r{index}", "object": kind, "created": 0, "model": server.model}

        def choice(self, text: str, finish: str | None, part: str) -> dict[str, Any]:
            chat = self.path.endswith("/chat/completions")
            content = {part: {"role": "assistant", "content": text}} if chat else {"text": text}
            return {"index": 0, "finish_reason": finish, **content}

        def stream_tokens(self, index: int, tokens: list[str], usage: dict[str, int]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, token in enumerate(tokens):
                time.sleep(server.token_s if number else server.first_token_s)
                finish = "length" if number == len(tokens) - 1 else None
                choices = [self.choice(token + " ", finish, "delta")]
                self.event({**self.envelope(index), "choices": choices})
            self.event({**self.envelope(index), "choices": [], "usage": usage})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")

        def event(self, document: dict[str, Any]) -> None:
            text = json.dumps(document, ensure_ascii=False)  # as vLLM writes it
            self.chunk(f"data: {text}\n\n".encode())

        def chunk(self, payload: bytes) -> None:
            self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
            self.wfile.flush()

    return Handler
