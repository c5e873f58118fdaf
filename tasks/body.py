"""What a body is given and how it answers: the inside of `python -P -m tasks.<step>.body`.

    def main(spec: CountSpec, context: BodyContext) -> CountResult:
        text = context.path(spec.text).read_text()
        return CountResult(num_words=len(text.split()))

    if __name__ == "__main__":
        run_body(CountSpec, main)

The request file holds the spec and, for each artifact that it names, the verified read-only path.
A body writes only below `context.out`; it never sees the store. Its answer is `result.json`, and
`artifacts.json`, which says below which relative path each digest of the result lies; a body that
raises leaves its words in `error.json`, and its traceback in the log.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tasks.artifacts import ArtifactKind, ArtifactRef, Input, describe
from tasks.spec import Result, Spec

S = TypeVar("S", bound=Spec)
R = TypeVar("R", bound=Result)

REQUEST_FILE = "request.json"
RESULT_FILE = "result.json"
ARTIFACTS_FILE = "artifacts.json"
METRICS_FILE = "metrics.jsonl"
ERROR_FILE = "error.json"


class ProgramFailed(Exception):
    """A program that the body ran for somebody failed: what it printed says why."""


class BodyContext:
    """A body's view of the world: verified inputs, one folder to write to, metrics."""

    def __init__(self, out: Path, checkpoints: Path, inputs: dict[str, str]):
        self.out = out
        self.checkpoints = checkpoints  # survives a killed attempt; the next attempt finds it
        self._inputs = inputs
        self._artifacts: dict[str, str] = {}
        self._metrics = (out / METRICS_FILE).open("a", encoding="utf-8", buffering=1)
        self._started = time.monotonic()

    def path(self, ref: Input) -> Path:
        """The verified, read-only file or folder of an artifact that the spec names."""
        if not isinstance(ref, ArtifactRef):
            raise TypeError(f"{ref!r} was not resolved to an artifact before the body started")
        return Path(self._inputs[ref.digest])

    def artifact(self, kind: ArtifactKind, path: Path, name: str | None = None) -> ArtifactRef:
        """Name a file or folder below `out` as part of the result."""
        ref = describe(path, kind, name or path.name)
        self._artifacts[ref.digest] = str(path.relative_to(self.out))
        return ref

    def metrics(self, step: int, **values: float | int | str | None) -> None:
        """Append one line to metrics.jsonl; `num_steps=` makes it a progress report."""
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} became {value} at step {step}")
        line = {"step": step, "time_s": round(time.monotonic() - self._started, 4), **values}
        self._metrics.write(json.dumps(line, allow_nan=False) + "\n")

    def finish(self, result: Result) -> None:
        """Write the answer; the result's JSON refuses NaN, so a body cannot report one."""
        (self.out / ARTIFACTS_FILE).write_text(json.dumps(self._artifacts))
        document: dict[str, Any] = result.model_dump(mode="json")
        (self.out / RESULT_FILE).write_text(json.dumps(document, allow_nan=False))


def with_fields(message: str, spec: Any, inputs: Mapping[str, str]) -> str:
    """The message with the field that named an input in place of its digest and path."""
    for field, ref in _refs_in(spec):
        path = inputs.get(ref["digest"])
        for name in (path, ref["digest"]):  # what is laid out is named by its digest
            message = message.replace(name, f"{field} ('{ref['name']}')") if name else message
    return message


def _refs_in(tree: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every artifact of a spec's JSON, with the dotted field that holds it."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, dict) and {"digest", "name", "size_bytes"} <= tree.keys():
        yield ".".join(place), tree
    elif isinstance(tree, dict):
        parts = tree.items()
    elif isinstance(tree, list):
        parts = enumerate(tree)
    for key, value in parts:
        yield from _refs_in(value, (*place, str(key)))


def run_body(spec_type: type[S], main: Callable[[S, BodyContext], R]) -> None:
    """Entry point of a body process: `request.json` and the output folder are its arguments."""
    request_path, out = Path(sys.argv[1]), Path(sys.argv[2])
    request = json.loads(request_path.read_text(encoding="utf-8"))
    context = BodyContext(out, Path(request["checkpoints"]), request["inputs"])
    try:
        context.finish(main(spec_type.model_validate(request["spec"]), context))
    except Exception as error:
        is_others = isinstance(error, ProgramFailed)
        message = with_fields(str(error), request["spec"], request["inputs"])
        words = {"message": message or type(error).__name__, "quotes_log": is_others}
        (out / ERROR_FILE).write_text(json.dumps(words))
        if is_others:  # our traceback would bury what the program said
            sys.exit(1)
        raise
