"""YAML files that people write: loaded safely, with line and column of every key and value.

    document = load_yaml(Path("quickstart.yaml"))
    document.value["steps"]["train"]["num_steps"]
    document.mark(("steps", "train", "num_steps"))        # Mark(line=12, column=5)

Scalars follow the YAML 1.2 core schema: `no` and `1:30` are text, `1e-3` is a number. Anchors,
aliases and merge keys work. Refused, with their place: duplicate keys, tags, several documents in
one file, an alias within itself, and more than `MAX_NODES` values once aliases are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from tasks.errors import Problem, SpecError

MAX_BYTES = 4 << 20
MAX_NODES = 200_000
MAX_DEPTH = 100

Location = tuple[str | int, ...]
"""A path of keys and indices: ("steps", "train", "betas", 0)."""


class Mark(NamedTuple):
    """A place in a source, counted from 1; line and column are None where there are none."""

    source: str
    line: int | None
    column: int | None


@dataclass(frozen=True)
class Document:
    """A tree of dicts, lists and scalars, and where each of its parts was written."""

    path: Path
    text: str
    value: Any
    marks: Mapping[Location, Mark] = field(repr=False)

    @property
    def folder(self) -> Path:
        """What relative paths in the file are relative to."""
        return self.path.parent

    def mark(self, location: Location) -> Mark:
        """Where the key (or list item) at a location stands, else its nearest parent."""
        while location and location not in self.marks:
            location = location[:-1]
        return self.marks.get(location, Mark(str(self.path), None, None))

    def get(self, location: Location, default: Any = None) -> Any:
        """The part of the tree at a location."""
        value = self.value
        for part in location:
            if not isinstance(value, dict | list):
                return default
            try:
                value = value[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                return default
        return value

    def problem(self, location: Location, message: str) -> Problem:
        """A problem at a location, with its line, column and dotted key."""
        mark = self.mark(location)
        return Problem(message, mark.source, mark.line, mark.column, dotted(location))

    def with_value(self, value: Any, marks: Mapping[Location, Mark]) -> Document:
        """The same file with another tree (overrides applied, references filled in)."""
        return replace(self, value=value, marks=marks)


def dotted(location: Location) -> str:
    """`steps.train.betas.0`"""
    return ".".join(str(part) for part in location)


def load_yaml(path: Path) -> Document:
    """Read and parse a file; raises `SpecError` with every problem that can be told apart."""
    source = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(f"is not UTF-8 text: {error.reason}", source)]) from error
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror or error}", source)]) from error
    if len(raw) > MAX_BYTES:
        raise SpecError([Problem(f"is larger than {MAX_BYTES >> 20} MiB", source)])
    value, marks = parse_yaml(text, source)
    return Document(path, text, value, marks)


def parse_yaml(text: str, source: str) -> tuple[Any, dict[Location, Mark]]:
    """The tree and the marks of YAML text; `source` is what problems call it."""
    try:
        node = yaml.compose(text, Loader=_CoreSchemaLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = _in_our_words(error, text)
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise SpecError([Problem(message, source, *place)]) from error
    except yaml.YAMLError as error:  # a control character, which has no line
        raise SpecError([Problem(f"is not valid YAML: {error}", source)]) from error
    except RecursionError as error:
        raise SpecError([Problem(f"is nested deeper than {MAX_DEPTH} levels", source)]) from error
    builder = _Builder(source)
    value = None if node is None else builder.build(node, ())
    if builder.problems:
        raise SpecError(builder.problems)
    return value, builder.marks


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2: no `yes`, no clock times, no dates."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        (
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    ),
    ("merge", r"^<<$", ["<"]),
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first
    )

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {BaseResolver.DEFAULT_MAPPING_TAG, BaseResolver.DEFAULT_SEQUENCE_TAG}


class _Builder:
    """Turns nodes into values, remembering where each stood and what was wrong."""

    def __init__(self, source: str):
        self.problems: list[Problem] = []
        self.marks: dict[Location, Mark] = {}
        self._source = source
        self._open: list[Node] = []
        self._num_nodes = 0

    def build(self, node: Node, location: Location, key: Node | None = None) -> Any:
        self._num_nodes += 1
        if self._num_nodes == MAX_NODES:
            self._refuse(node, location, f"aliases expand to more than {MAX_NODES} values")
        if self._num_nodes >= MAX_NODES:
            return None
        if node in self._open:
            return self._refuse(node, location, "an alias stands within what it names")
        if len(self._open) >= MAX_DEPTH:
            return self._refuse(node, location, f"nested deeper than {MAX_DEPTH} levels")
        mark = (key or node).start_mark
        self.marks[location] = Mark(self._source, mark.line + 1, mark.column + 1)
        self._open.append(node)
        try:
            if isinstance(node, ScalarNode):
                return self._scalar(node, location)
            if node.tag not in _PLAIN_TAGS:
                return self._refuse(node, location, f"tag '{_tag_name(node)}' is not allowed")
            if isinstance(node, SequenceNode):
                return [self.build(item, (*location, i)) for i, item in enumerate(node.value)]
            return {
                name: self.build(value, (*location, name), key_node)
                for name, (key_node, value) in self._entries(node, location).items()
            }
        finally:
            self._open.pop()

    def _entries(self, node: Node, location: Location) -> dict[str, tuple[Node, Node]]:
        """Key to (key node, value node); a mapping's own keys win over merged ones."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                for mapping in self._merged(value, location):
                    for name, entry in self._entries(mapping, location).items():
                        merged.setdefault(name, entry)
                continue
            if not isinstance(key, ScalarNode) or key.tag != f"{_TAG}str":
                self._refuse(key, location, f"keys are text; quote it: '{_excerpt(key)}'")
                continue
            if key.value in own:
                first = own[key.value][0].start_mark.line + 1
                message = f"duplicate key; it stands in line {first} already"
                self._refuse(key, (*location, key.value), message)
                continue
            own[key.value] = (key, value)
        return {**merged, **own}

    def _merged(self, value: Node, location: Location) -> Iterator[MappingNode]:
        for item in value.value if isinstance(value, SequenceNode) else [value]:
            if item in self._open:
                self._refuse(item, location, "an alias stands within what it names")
            elif isinstance(item, MappingNode):
                yield item
            else:
                self._refuse(value, location, "'<<' takes a mapping or a list of mappings")

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" | "float" as tag:
                try:
                    return (
                        int(text, 0 if text[:2] in ("0o", "0x") else 10)
                        if tag == "int"
                        else (float(text.replace(".inf", "inf").replace(".nan", "nan")))
                    )
                except ValueError:
                    return self._refuse(node, location, f"'{text}' is not a number")
        return self._refuse(node, location, f"tag '{_tag_name(node)}' is not allowed")

    def _refuse(self, node: Node, location: Location, message: str) -> None:
        mark = node.start_mark
        problem = Problem(message, self._source, mark.line + 1, mark.column + 1, dotted(location))
        if problem not in self.problems:
            self.problems.append(problem)


def _tag_name(node: Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


def _excerpt(node: Node) -> str:
    return node.value if isinstance(node, ScalarNode) else "…"


def _in_our_words(error: yaml.MarkedYAMLError, text: str) -> str:
    """PyYAML's complaint, with what a person should do about the common ones."""
    problem = str(error.problem or error.context or "is not valid YAML")
    if error.problem_mark is not None:
        lines = text.splitlines()
        line = lines[error.problem_mark.line] if error.problem_mark.line < len(lines) else ""
        if "\\t" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
            return "a tab stands where YAML wants spaces"
    if problem == "but found another document":
        return "holds more than one document; keep one per file"
    if problem == "mapping values are not allowed here":
        return "':' is not allowed here: check the indentation, or quote the text"
    if problem.startswith(("expected <block end>", "could not find expected ':'")):
        return f"check the indentation and the ':' after the key ({problem})"
    return f"is not valid YAML: {problem}"
