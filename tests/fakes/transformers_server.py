"""What `vllm serve` is to its clients, computed by transformers: completions and their likelihood.

A real model behind the HTTP interface, so that a client's scores can be compared with those of the
same model in process. It takes prompts of token ids, decodes greedily, and is slow.

    install(home)     # LABWRIGHT_HOME with a serve environment whose `vllm` is this file
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def install(home: Path) -> None:
    """A serve environment that counts as complete, in a home of the test's own."""
    from infra import pins
    from tests.fakes.installed import lay_down

    environment = pins.serve_environment(home, pins.has_nvidia_gpu())
    program = environment.folder / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text(encoding='utf-8')}")
    program.chmod(0o755)
    environment.python.symlink_to(sys.executable)
    lay_down(environment)


class Completions:
    """The model, asked as `/v1/completions` asks."""

    def __init__(self, folder: str, dtype: str):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One choice a prompt; `echo` adds the log-probability in nats of each of its tokens."""
        prompts = request["prompt"]
        prompts = [prompts] if isinstance(prompts[0], int) else prompts
        choices = [self._choice(tokens, request) | {"index": i} for i, tokens in enumerate(prompts)]
        return {"object": "text_completion", "model": request["model"], "choices": choices}

    def _choice(self, tokens: list[int], request: dict[str, Any]) -> dict[str, Any]:
        ids = self._torch.tensor([tokens])
        with self._torch.inference_mode():
            if request.get("echo"):
                return {"text": "", "logprobs": self._logprobs(ids)}
            generated = self._model.generate(
                ids, max_new_tokens=request["max_tokens"], do_sample=False
            )
        text = self._tokenizer.decode(generated[0, len(tokens) :], skip_special_tokens=True)
        for stop in request.get("stop") or ():
            text = text.partition(stop)[0]
        return {"text": text}

    def _logprobs(self, ids: Any) -> dict[str, Any]:
        logits = self._model(ids).logits[0].float().log_softmax(-1)
        best = logits.max(-1)
        own = logits[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        # The first token has no context; the last entry is the one generated token's.
        top = [None, *({"best": value} for value in best.values.tolist())]
        return {"token_logprobs": [None, *own, top[-1]["best"]], "top_logprobs": top}


def serve(model: Completions, host: str, port: int, name: str) -> None:
    key = os.environ["VLLM_API_KEY"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"data": [{"id": name}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/completions":
                self._reply(model.answer(json.loads(body)))
            else:
                self.send_error(404)

        def _reply(self, document: dict[str, Any]) -> None:
            if self.headers["Authorization"] != f"Bearer {key}":
                self.send_error(401)
                return
            text = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    ThreadingHTTPServer((host, port), Handler).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--dtype")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    options, _ = parser.parse_known_args()
    served = Completions(options.model, options.dtype)
    serve(served, options.host, options.port, options.served_model_name)
