"""Lay out raw data files so that lm-eval's standard tasks find them without a hub.

A mirror is a folder that holds datasets under their hub names, in the layout that `datasets` reads:

    mirror/openai/gsm8k/README.md              front matter that lists configs, splits and files
    mirror/openai/gsm8k/main/train.jsonl
    mirror/openai/gsm8k/main/test.jsonl

    add_dataset(mirror, "openai/gsm8k", {"main": {"train": raw / "train.jsonl", ...}})
    add_dataset(mirror, "SaylorTwift/bbh", one_config_per_file(raw / "bbh", split="test"))

Which name a task wants is the `dataset_path` of its YAML file in lm-eval. JSON lines, CSV and
Parquet files are copied as they are; a JSON document becomes JSON lines of its rows.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Configs = Mapping[str, Mapping[str, Path]]  # config -> split -> file

COPIED_SUFFIXES = frozenset({".jsonl", ".csv", ".parquet"})
NAME = re.compile(r"[\w.-]*\w[\w.-]*")


def add_dataset(mirror: Path, name: str, configs: Configs) -> Path:
    """Write one dataset below `mirror`, all of it or nothing; returns its folder.

    Raises ValueError for a name that is not `owner/dataset`, for a config or split that is no file
    name, and for files that cannot be read as rows; FileExistsError if the dataset is there, and
    other OSErrors for files that are not.
    """
    parts = name.split("/")
    for part in (*parts, *configs, *(split for splits in configs.values() for split in splits)):
        if not NAME.fullmatch(part) or len(parts) > 2:
            raise ValueError(f"'{part}' in dataset '{name}' cannot name a folder or a file")
    folder = mirror.joinpath(*parts)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _write_dataset(Path(scratch, "dataset"), configs).rename(folder)
    return folder


def _write_dataset(folder: Path, configs: Configs) -> Path:
    folder.mkdir()
    listing = []
    for config, splits in configs.items():
        (folder / config).mkdir()
        files = [
            {"split": split, "path": f"{config}/{_add_file(source, folder / config / split)}"}
            for split, source in splits.items()
        ]
        listing.append({"config_name": config, "data_files": files})
    front_matter = yaml.safe_dump({"configs": listing}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{front_matter}---\n", encoding="utf-8")
    return folder


def one_config_per_file(folder: Path, *, split: str) -> Configs:
    """Configs named after the files of a folder, each with one split, like BIG-Bench-Hard's."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".json", *COPIED_SUFFIXES})
    if not files:
        raise ValueError(f"no data files in {folder}")
    return {path.stem: {split: path} for path in files}


def _add_file(source: Path, stem: Path) -> str:
    """Copy or convert one file; returns its new name."""
    if source.suffix in COPIED_SUFFIXES:
        target = stem.with_name(stem.name + source.suffix)
        shutil.copyfile(source, target)
    elif source.suffix == ".json":
        target = stem.with_name(stem.name + ".jsonl")
        rows = _rows(json.loads(source.read_text(encoding="utf-8")), source)
        with target.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        known = ", ".join(sorted({".json", *COPIED_SUFFIXES}))
        raise ValueError(f"{source} is no data file that a mirror takes ({known})")
    return target.name


def _rows(document: Any, source: Path) -> list[dict[str, Any]]:
    """The document itself if it is a list of objects, else the one such list that it holds."""
    candidates = [document, *(document.values() if isinstance(document, dict) else ())]
    lists = [
        value
        for value in candidates
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    ]
    if len(lists) != 1:
        raise ValueError(f"{source} holds {len(lists)} lists of rows, not one")
    return lists[0]
