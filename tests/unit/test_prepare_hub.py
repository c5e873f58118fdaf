"""A model from the hub: one commit, its data files only, from whichever hub HF_ENDPOINT names."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks.prepare.model_spec import ModelFromHub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "vocab_size": 8}',
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"\x80\x04.",
    "modeling_evil.py": b"raise SystemExit",
}


class FakeHub(BaseHTTPRequestHandler):
    """The routes of the hub that a download of one commit needs."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        about = "/api/models/org/tiny"
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        self.server.seen.append(name)  # type: ignore[attr-defined]
        if path == f"{about}/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in FILES.items()
            ]
            content = json.dumps(tree).encode()
        elif path == f"{about}/revision/{COMMIT}":
            siblings = [{"rfilename": each} for each in FILES]
            content = json.dumps(
                {"id": "org/tiny", "sha": COMMIT, "siblings": siblings, "private": False}
            ).encode()
        elif name in FILES:
            content = FILES[name]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def fake_hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


RULE = ModelFromHub(kind="hub", id="org/tiny", revision=COMMIT)


def test_one_commit_is_fetched_without_its_programs_and_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.prepare.models import download

    with fake_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        download(RULE, tmp_path / "model")
        asked_for = set(server.seen)  # type: ignore[attr-defined]
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (tmp_path / "model" / "config.json").read_bytes() == FILES["config.json"]
    assert not {"pytorch_model.bin", "modeling_evil.py"} & asked_for
    assert not (tmp_path / "model-download").exists()


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.prepare.models import download

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(
        ValueError, match=r"cannot fetch org/tiny .*127\.0\.0\.1:9(.|\n)*kind: folder"
    ):
        download(RULE, tmp_path / "model")
