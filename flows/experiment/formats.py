"""Whether a file can be read as what its name says: nothing of it is executed or kept in memory.

    check_loadable(Path("model"), "model")      # raises ValueError in words

Folders: models and tokenizers in Hugging Face layout, reports, else every file in them that has a
known format. Files: JSON, JSON lines, YAML, safetensors, HTML, zip, CSV, Markdown and text, PNG.
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

from tasks.model_folder import safetensors_header

UNREADABLE = (
    *(ValueError, OSError, RuntimeError),  # nested too deeply is a RuntimeError
    *(zipfile.BadZipFile, zlib.error, csv.Error, yaml.YAMLError),
)


def check_loadable(path: Path, name: str) -> None:
    """Raise ValueError, saying what is wrong, unless the file or folder can be read.

    `name` tells the format: kept artifacts are named by their digest.
    """
    if path.is_dir():
        _folder(path)
        return
    check = _CHECKS.get(Path(name).suffix.lower())
    if check is None:
        known = ", ".join(sorted(_CHECKS))
        raise ValueError(f"no way to load '{name}' is known (there are {known}); use: exists")
    try:
        check(path)
    except UNREADABLE as error:
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def read_data(path: Path, name: str) -> Any:
    """The value of a JSON or YAML file; raises ValueError in words."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda file: json.loads(file.read_bytes()),
        ".yaml": lambda file: yaml.safe_load(file.read_bytes()),
        ".yml": lambda file: yaml.safe_load(file.read_bytes()),
    }
    suffix = Path(name).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"'{name}' is neither JSON nor YAML")
    try:
        return readers[suffix](path)
    except UNREADABLE as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def _folder(path: Path) -> None:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if not files:
        raise ValueError("the folder is empty")
    names = {file.relative_to(path).as_posix() for file in files}
    if "config.json" in names:
        _model(path, names)
    checked = 0
    for file in files:
        if file.suffix.lower() in _CHECKS:
            check_loadable(file, file.relative_to(path).as_posix())
            checked += 1
    if not checked:
        raise ValueError("the folder holds no file of a known format")


def _model(path: Path, names: set[str]) -> None:
    """A Hugging Face folder: a config with a model type, and the weights that its index names."""
    config = read_data(path / "config.json", "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise ValueError("config.json names no model_type")
    index = "model.safetensors.index.json"
    if index in names:
        absent = sorted(_indexed(read_data(path / index, index), index) - names)
        if absent:
            raise ValueError(f"{index} names {absent[0]}, which is not there")
    elif not any(name.endswith(".safetensors") for name in names):
        raise ValueError("the model has no weights (*.safetensors)")


def _indexed(found: Any, name: str) -> set[str]:
    """The files that an index of weights names."""
    weights = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(w, str) for w in weights.values()):
        raise ValueError(f"{name} has no weight_map of tensors to files")
    return set(weights.values())


def _json_lines(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def _table(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        widths = {len(row) for row in csv.reader(file, delimiter=delimiter, strict=True) if row}
    if len(widths) != 1:
        raise ValueError("it has no rows" if not widths else "its rows differ in length")


class _Elements(HTMLParser):
    num_elements = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.num_elements += 1


def _html(path: Path) -> None:
    parser = _Elements()
    parser.feed(path.read_text(encoding="utf-8"))
    if not parser.num_elements:
        raise ValueError("it holds no HTML element")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"its member {damaged} is damaged")


def _png(path: Path) -> None:
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or b"IEND" not in content[-12:]:
        raise ValueError("it is no complete PNG image")


def _text(path: Path) -> None:
    path.read_text(encoding="utf-8")


_CHECKS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".jsonl": _json_lines,
    ".yaml": lambda path: yaml.safe_load(path.read_bytes()),
    ".yml": lambda path: yaml.safe_load(path.read_bytes()),
    ".safetensors": safetensors_header,
    ".csv": _table,
    ".tsv": _table,
    ".html": _html,
    ".zip": _zip,
    ".png": _png,
    ".md": _text,
    ".txt": _text,
}
