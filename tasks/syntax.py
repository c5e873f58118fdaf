"""What a Python file says, apart from how it is written: a digest, and the modules that it names.

The digest does not see positions, formatting, comments, docstrings, `pass`, or the `description` of
a pydantic `Field`; it sees everything else. It is the same on every supported Python, so it is made
of our own walk over the syntax tree: what `ast.dump` prints changes from version to version.

    read_source(Path("tasks/train/body.py").read_bytes()).digest

Standard library only; nothing is imported or run.
"""

from __future__ import annotations

import ast
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
# CPython before 3.13 counts the depth of its recursion once for all threads (gh-106905): two that
# parse at the same time end in a SystemError.
_PARSING = threading.Lock()
IMPORT_CALLS = frozenset({"import_module", "__import__", "run_module", "run_path", "exec_module"})


@dataclass(frozen=True)
class Import:
    """One `import` statement's name; `from . import x` has level 1, and `x` among its names."""

    module: str
    names: tuple[str, ...]
    level: int
    line: int


@dataclass(frozen=True)
class Source:
    """What one file says and which modules it names."""

    digest: str
    imports: tuple[Import, ...]
    strings: frozenset[str]  # constants that are dotted names: `python -m tasks.x` runs such a one
    # Line and code of imports whose target is computed.
    unknown_imports: tuple[tuple[int, str], ...]


def read_source(code: bytes) -> Source:
    """Parse a file; SyntaxError where it is no Python."""
    with _PARSING:
        tree = ast.parse(code)
    text = json.dumps(_normal_form(tree), separators=(",", ":"))
    imports: list[Import] = []
    strings: set[str] = set()
    unknown: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [Import(alias.name, (), 0, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            imports.append(Import(node.module or "", names, node.level, node.lineno))
            unknown += [(node.lineno, ast.unparse(node)) for alias in node.names if _hides(alias)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _is_dotted_name(node.value):
                strings.add(node.value)
        elif isinstance(node, ast.Call) and _has_unknown_target(node):
            unknown.append((node.lineno, ast.unparse(node)))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Source(digest, tuple(imports), frozenset(strings), tuple(unknown))


# -- the normal form -------------------------------------------------------------------


def _normal_form(node: Any) -> Any:
    """Nested lists that are equal where two trees mean the same."""
    if isinstance(node, list):
        return [_normal_form(item) for item in node if not _is_without_effect(item)]
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, _constant(node.value)]
    if not isinstance(node, ast.AST):
        return node  # an identifier, a number such as ImportFrom.level, or None in a list
    form: list[Any] = [type(node).__name__]
    for name, value in _fields(node):
        if value is not None and value != []:
            form.append([name, _normal_form(value)])
    return form


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name in node._fields:
        if name in IGNORED_FIELDS:
            continue
        value = getattr(node, name, None)
        if isinstance(node, ast.JoinedStr):
            value = list(_merged(node.values))
        elif isinstance(node, ast.Call) and name == "keywords" and _last_name(node.func) == "Field":
            value = [keyword for keyword in node.keywords if keyword.arg != "description"]
        yield name, value


def _is_without_effect(item: Any) -> bool:
    """Whether it is a `pass`, a docstring, or another constant that stands alone."""
    is_constant = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
    return is_constant or isinstance(item, ast.Pass)


def _merged(values: list[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, neighbouring texts joined: Pythons cut them differently."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text += value.value
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield value
    if text:
        yield ast.Constant(text)


def _constant(value: Any) -> str:
    """Text that no Python version writes differently (repr of text follows its Unicode tables)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, complex):
        return f"{value.real.hex()} {value.imag.hex()}"
    return repr(value)


# -- imports that are not statements ---------------------------------------------------


def _hides(alias: ast.alias) -> bool:
    """Whether `from m import alias` makes it unclear which modules count."""
    is_renamed = alias.name in IMPORT_CALLS and alias.asname not in (None, alias.name)
    return is_renamed or alias.name == "*"


def _has_unknown_target(call: ast.Call) -> bool:
    """Whether it imports a module whose top-level package cannot be read off the code."""
    if _last_name(call.func) not in IMPORT_CALLS:
        return False
    first = call.args[0] if call.args else None
    if isinstance(first, ast.JoinedStr) and first.values:
        start = first.values[0]
        return not (
            isinstance(start, ast.Constant)
            and isinstance(start.value, str)
            and "." in start.value.lstrip(".")
            and not start.value.startswith((".", "tasks."))
        )
    is_known = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return not is_known or first.value.startswith(".")  # type: ignore[union-attr]


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_dotted_name(text: str) -> bool:
    return "." in text and all(part.isidentifier() for part in text.split("."))
