"""Run one step's body several times in one process, so that tests pay once for importing torch.

    answers = run_bodies("tasks.evaluate.body", tmp_path, {"first": spec, "second": other_spec})
    answers["first"].result, answers["second"].error

Inputs are local paths in the specs; each becomes the artifact that it is. A run that fails does not
keep the others from running.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.artifacts import ArtifactKind, LocalPath, describe
from tasks.body import ERROR_FILE, METRICS_FILE, RESULT_FILE, run_body
from tasks.spec import Spec


@dataclass(frozen=True)
class Answer:
    """What one run was asked and left behind: its folder, and a result or an error's words."""

    request: Path
    out: Path
    result: dict[str, Any] | None
    error: str | None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return self.json_lines(METRICS_FILE)


def run_bodies(body: str, folder: Path, specs: Mapping[str, Spec]) -> dict[str, Answer]:
    """Write requests, run them in a process of their own, read the answers."""
    home = folder / "home"  # a test may have put something there
    home.mkdir(parents=True, exist_ok=True)
    arguments = []
    for name, spec in specs.items():
        out = folder / name
        (out / "checkpoints").mkdir(parents=True)
        request = folder / f"{name}.json"
        request.write_text(json.dumps(_request(spec, out / "checkpoints")))
        arguments += [str(request), str(out)]
    subprocess.run(
        [sys.executable, "-P", str(Path(__file__)), body, *arguments],
        check=True,
        env={**os.environ, "HOME": str(home), "LABWRIGHT_HOME": str(home / "labwright")},
    )
    return {name: _answer(folder / f"{name}.json", folder / name) for name in specs}


def _request(spec: Spec, checkpoints: Path) -> dict[str, Any]:
    """A spec with its local paths described as artifacts, as the store would resolve them."""
    inputs: dict[str, str] = {}
    fields = spec.model_dump(mode="json")
    for name, value in spec:
        if isinstance(value, LocalPath):
            ref = describe(value.path, ArtifactKind.FOLDER, value.path.name)
            inputs[ref.digest] = str(value.path)
            fields[name] = ref.model_dump(mode="json")
    return {"spec": fields, "inputs": inputs, "checkpoints": str(checkpoints)}


def _answer(request: Path, out: Path) -> Answer:
    result, error = out / RESULT_FILE, out / ERROR_FILE
    return Answer(
        request,
        out,
        json.loads(result.read_text()) if result.exists() else None,
        json.loads(error.read_text())["message"] if error.exists() else None,
    )


def _run_all(body: str, *paths: str) -> None:
    main = importlib.import_module(body).main
    spec_type = typing.get_type_hints(main)["spec"]
    for request, out in zip(paths[::2], paths[1::2], strict=True):
        sys.argv = [body, request, out]
        try:
            run_body(spec_type, main)
        except Exception:  # noqa: BLE001 - any failure is that run's answer
            traceback.print_exc()


if __name__ == "__main__":
    _run_all(*sys.argv[1:])
