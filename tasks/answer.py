"""What a body left behind, read with distrust: it may be garbage, torn, or a lie.

    answer = read_answer(staging / "out")
    answer.result                    # parsed JSON, not validated yet
    answer.files[ref.digest]         # where a digest of the result lies, below `out`
    failure_words(out, logs)         # why a body that failed says it did

`UnusableAnswer` says in words what is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.body import ARTIFACTS_FILE, ERROR_FILE, RESULT_FILE

NUM_LAST_LINES = 5  # of its output, quoted when a body ends without words of its own
MAX_LAST_BYTES = 1 << 14
MAX_ANSWER_BYTES = 64 << 20


class UnusableAnswer(ValueError):
    """The body exited with 0, and what it left cannot be its result."""


@dataclass(frozen=True)
class Answer:
    """A result as JSON, and the path of each artifact that it may name."""

    result: Any
    files: dict[str, Path]


def read_answer(out: Path) -> Answer:
    """The answer in a body's folder; nothing outside of that folder is accepted."""
    try:
        result = _read_json(out / RESULT_FILE)
    except FileNotFoundError as error:
        raise UnusableAnswer("it exited with 0 but left no result") from error
    try:
        listed = _read_json(out / ARTIFACTS_FILE)
    except FileNotFoundError:
        listed = {}
    if not isinstance(listed, dict):
        raise UnusableAnswer(f"{ARTIFACTS_FILE} is not a mapping of digests to paths")
    return Answer(result, {digest: _below(out, path) for digest, path in listed.items()})


def failure_words(out: Path, logs: Path) -> str:
    """The message of the exception that ended the body, or else the end of its stderr.

    Both, where the body says that another program's words explain it; what it said on stdout,
    where that is all it said.
    """
    said = last_lines(logs / "stderr.txt")
    try:
        words = _read_json(out / ERROR_FILE)
        message = str(words["message"])
        if not words.get("quotes_log"):
            return message
        return f"{message}\n{said or last_lines(logs / 'stdout.txt')}".rstrip()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return said


def _below(out: Path, path: Any) -> Path:
    try:
        found: Path = (out / path).resolve()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UnusableAnswer(f"{ARTIFACTS_FILE} holds {path!r}, which is no path") from error
    if not found.is_relative_to(out.resolve()):
        raise UnusableAnswer(f"it named a file outside of its folder: {found}")
    if not found.exists():
        raise UnusableAnswer(f"it named a file that it did not write: {path}")
    return found


def _read_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}, which is not a number")

    if not path.is_file() and path.exists():
        raise UnusableAnswer(f"{path.name} is not a file")
    if path.stat().st_size > MAX_ANSWER_BYTES:
        raise UnusableAnswer(f"{path.name} has more than {MAX_ANSWER_BYTES} bytes")
    try:
        return json.loads(path.read_bytes(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer(f"{path.name} cannot be read: {error}") from error


def last_lines(path: Path) -> str:
    """The end of a log, or nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_LAST_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-NUM_LAST_LINES:])
