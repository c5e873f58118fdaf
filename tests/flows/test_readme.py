"""What the README shows is what happens: its commands, its errors, its tree, its code."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from tests.fakes.quickstart import labwright

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"^ {4}(?:\.venv/bin/)?labwright (.+?)(?: {2,}#.*)?$", README, re.M))
)


def block(kind: str) -> str:
    """The first fenced block of a kind."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", README, re.M | re.DOTALL)
    assert found, kind
    return found.group(1)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_is_shown_exists_with_its_options(command: str) -> None:
    group = get_command(app)
    words = shlex.split(command)
    context = group.make_context("labwright", words.copy(), resilient_parsing=True)
    while hasattr(group, "resolve_command"):
        name, found, words = group.resolve_command(context, words)
        assert found is not None, f"no command '{name}'"
        group = found
        context = found.make_context(name, words.copy(), parent=context, resilient_parsing=True)
    known = {option for parameter in group.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("run examples/quick")])
def test_every_override_that_is_shown_plans(command: str, tmp_path: Path) -> None:
    words = [str(ROOT / w) if w.startswith("examples/") else w for w in shlex.split(command)]
    planned = labwright(*words, *({"--dry-run"} - set(words)), LABWRIGHT_HOME=str(tmp_path))
    assert planned.returncode == 0, planned.stderr


def test_the_broken_file_says_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(block("yaml broken.yaml"))
    said = labwright("validate", str(tmp_path / "broken.yaml"), LABWRIGHT_HOME=str(tmp_path))
    assert said.returncode == 2
    assert said.stderr.replace(f"{tmp_path}/", "") == block("text")


def test_the_code_that_is_shown_names_what_exists() -> None:
    tree = ast.parse(block("python"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = __import__(node.module, fromlist=["*"])
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_tree_that_is_shown_is_the_tree() -> None:
    section = README.partition("## The house")[2].partition("## How to go on")[0]
    folders: list[str] = []
    for line in section.splitlines():
        found = re.match(r"^ {4}( *)(\S+(?:,? \S+/?)*?)(?: {2,}|$)", line)
        if not found or found.group(2).startswith("one folder"):
            continue
        depth = len(found.group(1)) // 2
        if depth > 5:
            continue
        names = re.split(r",? ", found.group(2))
        folders = [*folders[:depth], names[0]]
        for name in names:
            assert (ROOT / "/".join([*folders[:depth], name])).exists(), (folders, name)


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
