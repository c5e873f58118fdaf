"""Whether a file can be read as what its name says: nothing of it is executed or kept in memory.

    check_loadable(Path("model"), "model", is_model=True)      # raises ValueError in words

A model has to be one: a Hugging Face folder with config and weights, or a file of weights. Of other
folders every file that has a known format is read. Files: JSON, JSON lines, YAML, safetensors,
HTML, zip, CSV, Markdown and text, PNG.
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

from tasks.model_folder import INDEX, check_model_folder, safetensors_header

WEIGHTS = (".safetensors",)  # what a model may be beside a folder
UNREADABLE = (
    *(ValueError, OSError, RuntimeError),  # nested too deeply is a RuntimeError
    *(zipfile.BadZipFile, zlib.error, csv.Error, yaml.YAMLError),
)


def check_loadable(path: Path, name: str, is_model: bool = False) -> None:
    """Raise ValueError, saying what is wrong, unless the file or folder can be read.

    `name` tells the format: kept artifacts are named by their digest.
    """
    if path.is_dir():
        _folder(path, is_model)
        return
    if is_model and Path(name).suffix.lower() not in WEIGHTS:
        raise ValueError(f"'{name}' is no model: neither a model's folder nor *.safetensors")
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


def _folder(path: Path, is_model: bool) -> None:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if not files:
        raise ValueError("the folder is empty")
    if is_model or (path / "config.json").is_file():
        _model(path)
    checked = 0
    for file in files:
        if file.suffix.lower() in _CHECKS:
            check_loadable(file, file.relative_to(path).as_posix())
            checked += 1
    if not checked:
        raise ValueError("the folder holds no file of a known format")


def _model(path: Path) -> None:
    """A Hugging Face folder: config and weights, each tensor where the index says it is."""
    index = path / INDEX
    if index.is_file():
        _check_index(read_data(index, INDEX))
    try:
        check_model_folder(path)
    except (*UNREADABLE, TypeError, AttributeError, KeyError) as error:
        own = f"{path.name} "  # a digest, where the folder is kept
        words = f"it {str(error).removeprefix(own)}" if str(error).startswith(own) else str(error)
        raise ValueError(f"cannot be loaded as a model: {words}") from error


def _check_index(found: Any) -> None:
    weights = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(w, str) for w in weights.values()):
        raise ValueError(f"{INDEX} has no weight_map of tensors to files")


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
