"""A script of the user's as a step: its words, its bytes, what it reads and what it leaves.

    CommandSpec(script="python train.py", config={"lr": 3e-4, "fast": True}, inputs={"data": "x"})

runs `python train.py --lr 0.0003 --fast` in an empty folder, where `inputs/data` is x. What the
script leaves in that folder is the result. Without `inputs` nothing says what it reads, so that its
result is kept for one run only; `inputs: {}` says that it reads nothing but itself.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from tasks.artifacts import ArtifactRef, Input
from tasks.errors import nearest
from tasks.spec import Frozen, Result, Spec

INTERPRETER = re.compile(r"(python[0-9.]*|bash|sh)$")
NO_SCRIPT_OPTIONS = ("-m", "-c")

EVERYTHING = "**/*"

Scalar = bool | int | float | str


def _words(value: Any) -> Any:
    """The words of a command line; quotes group, as in a shell."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    if isinstance(value, list | tuple):
        return tuple(
            str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
            for word in value
        )
    return value


def _inside(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"'{pattern}' must be a relative pattern without '..'")
    return pattern


Pattern = Annotated[str, AfterValidator(_inside)]
InputName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class ScriptFile(Frozen):
    """The word of the command line that is the script, and its bytes."""

    word: int = Field(ge=0, description="Position of the script in the command line, from 0.")
    content: Input = Field(description="The file.")


class CommandSpec(Spec):
    """Everything that may change what a script of yours does."""

    script: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        min_length=1,
        description="Command line, as one text or a list of words; files are relative to yours.",
    )
    config: dict[str, Scalar | tuple[Scalar, ...]] = Field(
        default_factory=dict,
        description="Options: `key: value` is passed as --key value, true as --key, false not.",
    )
    script_file: ScriptFile | None = Field(
        default=None, description="Which word is the script; found by itself."
    )
    inputs: dict[InputName, Input] | None = Field(
        default=None,
        description="Files and artifacts it reads, found below inputs/. Without this field the "
        "result is reused only when the same run is resumed.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables that change what it does."
    )
    outputs: tuple[Pattern, ...] = Field(
        default=(EVERYTHING,), min_length=1, description="What to keep of what it leaves (globs)."
    )
    occasion: str = Field(
        default="", description="Whatever tells this time from others; set to the run's id."
    )

    @model_validator(mode="before")
    @classmethod
    def _find_script(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or "script" not in data or "script_file" in data:
            return data
        words = _words(data["script"])
        folder = Path((info.context or {}).get("base_dir", Path.cwd()))
        if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
            return data
        index = script_index(words, folder)
        if index is None:
            return data
        content = str(folder / Path(words[index]).expanduser())
        return {**data, "script_file": {"word": index, "content": content}}

    def argv(self) -> tuple[str, ...]:
        """The whole command line: the script's words, then the options."""
        return (*self.script, *options(self.config))

    def on_occasion(self, occasion: str) -> CommandSpec:
        """The spec for one run; the same where declared inputs say what the script reads."""
        if self.inputs is not None or self.occasion:
            return self
        return self.model_copy(update={"occasion": occasion})


class CommandResult(Result):
    """What the script left."""

    outputs: ArtifactRef = Field(description="Folder with the files that were kept.")
    num_files: int = Field(ge=0, description="Files kept.")
    size_bytes: int = Field(ge=0, description="Their size.")


def options(config: dict[str, Any]) -> Iterator[str]:
    """`--key value` for each entry; true is the bare option, false leaves it out."""
    for key, value in config.items():
        values = value if isinstance(value, tuple) else (value,)
        if value is False:
            continue
        yield f"--{key}"
        if value is not True:
            yield from (str(item) for item in values)


def script_index(words: tuple[str, ...], folder: Path) -> int | None:
    """Which word is the script's file; None for a program on PATH, `-m module` and `-c code`.

    Raises ValueError where an interpreter is given a file that is not there.
    """
    first = words[0] if words else ""
    if not INTERPRETER.match(PurePosixPath(first).name):
        is_file = (folder / first).is_file()
        return 0 if is_file and ("/" in first or shutil.which(first) is None) else None
    for index, word in enumerate(words[1:], start=1):
        if word in NO_SCRIPT_OPTIONS:
            return None
        if word.startswith("-"):
            continue
        if not (folder / word).is_file():
            beside = [path.name for path in (folder / word).parent.glob("*") if path.is_file()]
            raise ValueError(f"there is no '{word}' in {folder}{nearest(Path(word).name, beside)}")
        return index
    return None
