"""A mirror: raw files laid out under hub names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.evaluate.mirror import add_dataset, one_config_per_file


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def front_matter(folder: Path) -> dict[str, list[dict[str, object]]]:
    _, text, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n")
    document: dict[str, list[dict[str, object]]] = yaml.safe_load(text)
    return document


def test_json_lines_are_copied_and_listed_by_config_and_split(tmp_path: Path) -> None:
    raw = tmp_path / "test.jsonl"
    raw.write_text('{"question": "1+1?", "answer": "2"}\n', encoding="utf-8")

    folder = add_dataset(tmp_path / "mirror", "openai/gsm8k", {"main": {"test": raw}})

    assert folder == tmp_path / "mirror/openai/gsm8k"
    assert (folder / "main/test.jsonl").read_bytes() == raw.read_bytes()
    assert front_matter(folder) == {
        "configs": [
            {
                "config_name": "main",
                "data_files": [{"split": "test", "path": "main/test.jsonl"}],
            }
        ]
    }


def test_a_json_document_becomes_lines_of_its_one_list_of_rows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [{"input": "not True is", "target": "False"}, {"input": "“é”", "target": "True"}]
    (raw / "boolean_expressions.json").write_text(
        json.dumps({"canary": "never train on this", "examples": rows}), encoding="utf-8"
    )

    folder = add_dataset(tmp_path / "m", "SaylorTwift/bbh", one_config_per_file(raw, split="test"))

    assert rows_of(folder / "boolean_expressions/test.jsonl") == rows


def test_a_document_with_two_lists_of_rows_is_refused_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "two.json"
    raw.write_text('{"a": [{"x": 1}], "b": [{"x": 2}]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"two\.json holds 2 lists of rows"):
        add_dataset(tmp_path / "mirror", "owner/data", {"main": {"test": raw}})


@pytest.mark.parametrize("name", ["../outside", "owner/..", "a/b/c", "/etc", "owner/"])
def test_a_dataset_name_never_leads_out_of_the_mirror(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        add_dataset(tmp_path / "mirror", name, {})
    assert not (tmp_path / "outside").exists()


def test_other_kinds_of_files_are_refused_with_those_that_are_taken(tmp_path: Path) -> None:
    raw = tmp_path / "rows.pkl"
    raw.write_bytes(b"")
    with pytest.raises(ValueError, match=r"rows\.pkl is no data file .*\.csv, \.json"):
        add_dataset(tmp_path / "mirror", "owner/data", {"main": {"test": raw}})


def test_a_dataset_that_cannot_be_made_in_full_is_not_made(tmp_path: Path) -> None:
    good = tmp_path / "train.jsonl"
    good.write_text("{}\n")
    configs = {"main": {"train": good, "test": tmp_path / "test.jsonl"}}
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl"):
        add_dataset(tmp_path / "mirror", "openai/gsm8k", configs)
    assert list((tmp_path / "mirror").rglob("*.*")) == []


def make_mirror(*folders: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parents[2] / "examples" / "full" / "make_mirror.py"
    return subprocess.run(
        [sys.executable, str(script), *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_full_examples_mirror_is_made_of_raw_files_once(tmp_path: Path) -> None:
    raw, mirror = tmp_path / "raw", tmp_path / "mirror"
    for name in ("gsm8k", "bbh"):
        (raw / name).mkdir(parents=True)
    for split in ("train", "test"):
        (raw / "gsm8k" / f"{split}.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    (raw / "bbh" / "navigate.json").write_text('{"examples": [{"input": "?", "target": "Yes"}]}')

    assert make_mirror(raw, mirror).returncode == 0
    assert (mirror / "openai/gsm8k/main/train.jsonl").is_file()
    assert rows_of(mirror / "SaylorTwift/bbh/navigate/test.jsonl")[0]["target"] == "Yes"
    again = make_mirror(raw, mirror)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == f"{mirror}/openai/gsm8k is there already\n"
