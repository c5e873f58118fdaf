"""What is checked of a model folder is what libraries load, and none of it is a pickle."""

from __future__ import annotations

import ast
import json
import struct
from pathlib import Path

import pytest

from tasks.model_folder import check_model_folder, weight_files
from tasks.serving import ServerOptions

TASKS = Path(__file__).parents[2] / "tasks"


def write_weights(folder: Path, *files: str) -> Path:
    """A model folder whose files hold one tensor each, named as the file's stem."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    for name in files:
        if name.endswith(".safetensors"):
            tensor = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
            header = json.dumps({Path(name).stem: tensor}).encode()
            (folder / name).write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
        else:
            (folder / name).write_bytes(b"\x80\x04.")
    return folder


def write_index(folder: Path, *files: str) -> None:
    index = {"weight_map": {Path(name).stem: name for name in files}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("weights.safetensors", "pytorch_model.bin"), "has no model.safetensors, only weights"),
        (("pytorch_model.bin",), "has pytorch_model.bin, pickled weights"),
        (("model.safetensors", "consolidated.safetensors"), "consolidated.safetensors beside"),
    ],
)
def test_weights_under_another_name_than_libraries_load_are_refused(
    tmp_path: Path, files: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_model_folder(write_weights(tmp_path / "m", *files))


@pytest.mark.parametrize(
    ("indexed", "words"),
    [
        (
            ("a.safetensors", "b.safetensors"),
            "has no b.safetensors, only a.safetensors, c.safetensors",
        ),
        (("a.safetensors", "../x.safetensors"), r"names \.\./x\.safetensors, which is not beside"),
    ],
)
def test_an_index_names_files_that_are_there(
    tmp_path: Path, indexed: tuple[str, ...], words: str
) -> None:
    folder = write_weights(tmp_path / "m", "a.safetensors", "c.safetensors")
    write_index(folder, *indexed)
    with pytest.raises(ValueError, match=words):
        check_model_folder(folder)


def test_an_index_beside_whole_weights_is_refused_as_libraries_disagree(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "m", "a.safetensors", "model.safetensors")
    write_index(folder, "a.safetensors")
    with pytest.raises(ValueError, match="which are the weights is not clear"):
        check_model_folder(folder)


def test_split_weights_are_those_of_the_index_whatever_lies_beside(tmp_path: Path) -> None:
    files = ("a.safetensors", "b.safetensors", "consolidated.safetensors", "old.bin")
    folder = write_weights(tmp_path / "m", *files)
    write_index(folder, "a.safetensors", "b.safetensors")
    assert [path.name for path in weight_files(folder)] == ["a.safetensors", "b.safetensors"]
    assert set(check_model_folder(folder)) == {"a", "b"}


def test_every_model_is_loaded_from_safetensors_alone() -> None:
    """A GGUF file is read by another way, and holds no pickle."""
    loads = [
        (path.name, ast.unparse(node))
        for path in TASKS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (
                "AutoModel" in ast.unparse(node.func)
                and ast.unparse(node.func).endswith("from_pretrained")
            )
            or ast.unparse(node.func) == "HFLM"
        )
    ]
    assert len(loads) >= 5
    for name, call in loads:
        is_gguf = "**place" in call
        assert is_gguf or "use_safetensors=True" in call, f"{name}: {call}"
        assert "trust_remote_code=False" in call, f"{name}: {call}"


def test_a_server_is_not_told_to_load_anything_else() -> None:
    with pytest.raises(ValueError, match="'load-format' cannot be set: weights are safetensors"):
        ServerOptions(flags={"load-format": "pt"})
