"""A script of the user's as a step: its words, its bytes, what it reads and what it leaves.

    CommandSpec(script="python train.py", config={"lr": 3e-4, "fast": True}, inputs={"data": "x"})

runs `python train.py --lr 0.0003 --fast` in an empty folder, where `inputs/data` is x. What the
script leaves in that folder is the result. Without `inputs` nothing says what it reads, so that its
result is kept for one run only; `inputs: {}` says that it reads nothing but itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from tasks.artifacts import ArtifactRef, Input
from tasks.errors import nearest
from tasks.spec import Frozen, Result, Spec

INTERPRETER = re.compile(r"python[0-9.]*|bash|sh")
NO_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*[cm]")  # -c code, -m module, -ec code
OPTIONS_WITH_VALUE = ("-W", "-X", "-o", "+o")

EVERYTHING = "**/*"
FORMS = "'python train.py' or [python, train.py]"

Scalar = bool | int | float | str


def _words(value: Any) -> Any:
    """The words of a command line; quotes group, as in a shell."""
    if isinstance(value, str):
        try:
            words: tuple[Any, ...] = tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {error}") from error
    elif isinstance(value, list | tuple):
        words = tuple(
            str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word
            for word in value
        )
    else:
        raise ValueError(f"must be a command line: {FORMS}")
    if not words or words[0] == "":
        raise ValueError(f"names no program; write {FORMS}")
    if any("\0" in word for word in words if isinstance(word, str)):
        raise ValueError("holds a NUL character, which no command line can")
    return words


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
        description="Options: `key: value` is passed as --key value, true as --key, false not; "
        "sorted by key, as a mapping has no order.",
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
        default="",
        description="Whatever tells this time from others; without inputs, set to the run's id.",
    )

    @model_validator(mode="before")
    @classmethod
    def _find_script(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or "script" not in data or "script_file" in data:
            return data
        try:
            words = _words(data["script"])
            if not all(isinstance(word, str) for word in words):
                return data
            index = script_index(words, _folder(info))
        except ValueError:
            return data  # `script` itself is refused, under its own name
        if index is None:
            return data
        content = str(script_path(words[index], _folder(info)))
        return {**data, "script_file": {"word": index, "content": content}}

    @field_validator("script")
    @classmethod
    def _is_there(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "base_dir" in (info.context or {}):  # a body has the script by content alone
            script_index(words, _folder(info))
        return words

    @model_validator(mode="after")
    def _can_start(self, info: ValidationInfo) -> Self:
        if "script_file" in self.model_fields_set:
            return self
        try:
            script_index(self.script, _folder(info))
            refuse_absent_program(self.script[0], self.environment.get("PATH"))
        except ValueError as error:
            words = PydanticCustomError("value_error", "{error}", {"error": str(error)})
            details = InitErrorDetails(type=words, loc=("script",), input=self.script)
            raise ValidationError.from_exception_data("CommandSpec", [details]) from error
        return self

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
    """`--key value` for each entry, by key; true is the bare option, false leaves it out.

    Sorted, as the identity is: one result must not answer for two command lines.
    """
    for key, value in sorted(config.items()):
        values = value if isinstance(value, tuple) else (value,)
        if value is False:
            continue
        yield f"--{key}"
        if value is not True:
            yield from (str(item) for item in values)


def script_index(words: tuple[str, ...], folder: Path) -> int | None:
    """Which word is the script's file; None for a program on PATH, `-m module` and `-c code`.

    Raises ValueError in words where the script is missing, a folder, or not to be read.
    """
    first = words[0]
    if not INTERPRETER.fullmatch(PurePosixPath(first).name):
        is_file = os.path.isfile(script_path(first, folder))
        if "/" not in first and (not is_file or shutil.which(first)):
            return None
        _refuse_unusable(first, folder, is_program=True)
        return 0
    if "/" in first:
        _refuse_unusable(first, folder, is_program=True)
    rest = iter(enumerate(words[1:], start=1))
    for index, word in rest:
        if NO_SCRIPT_OPTION.fullmatch(word):
            return None
        if word in OPTIONS_WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            _refuse_unusable(word, folder)
            return index
    return None


def script_path(word: str, folder: Path) -> Path:
    """Where a script lies that is named relative to `folder`, or to somebody's home."""
    return folder / os.path.expanduser(word)


def refuse_absent_program(name: str, path: str | None) -> None:
    """Raise ValueError unless a program is on PATH; `path` is what the script's own PATH will be.

    A script finds this interpreter's folder before everything else.
    """
    searched = os.environ.get("PATH", os.defpath) if path is None else path
    here = os.pathsep.join([str(Path(sys.executable).parent), searched])
    if "/" not in name and shutil.which(name, path=here) is None:
        hint = nearest(name, ("python", "bash", "sh"), likeness=0.7)
        raise ValueError(f"there is no program '{name}' on PATH{hint}")


def _folder(info: ValidationInfo) -> Path:
    """What the words of a command line are relative to."""
    return Path((info.context or {}).get("base_dir", Path.cwd()))


def _refuse_unusable(word: str, folder: Path, is_program: bool = False) -> None:
    path = script_path(word, folder)
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, not a script")
    if not os.path.isfile(path):
        raise ValueError(f"there is no {path}{nearest(path.name, _names_beside(path))}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path} cannot be read; type: chmod +r {shlex.quote(str(path))}")
    if is_program and not os.access(path, os.X_OK):
        raise ValueError(f"{path} is not executable; type: chmod +x {shlex.quote(str(path))}")


def _names_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(path.parent) if entry.is_file()]
    except (OSError, ValueError):
        return []
