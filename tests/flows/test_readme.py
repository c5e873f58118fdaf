"""What the README shows is what happens: its commands, its errors, its tree, its code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from tests.fakes.quickstart import labwright
from tests.fakes.tiny_tasks import write_tiny_tasks

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


def test_the_code_that_is_shown_runs_where_nothing_was_computed_before(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As it stands, beside the two folders that it names; it starts the server itself."""
    shutil.copytree(tiny_model, tmp_path / "model")
    write_tiny_tasks(tmp_path / "eval_tasks")
    (tmp_path / "shown.py").write_text(block("python"))
    variables = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    home = str(tmp_path / "home")
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "shown.py"],
            cwd=tmp_path,
            env={**variables, "LABWRIGHT_HOME": home, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert (tmp_path / "home" / "server.json").is_file()
    finally:
        labwright("server", "stop", LABWRIGHT_HOME=home)
    found = re.search(r"estimate=(\d\.\d+)", ran.stdout)
    assert found, ran.stdout
    assert 0.9 < float(found[1]) < 1.1
    records = sorted(path.parent.name for path in (tmp_path / "home" / "records").glob("*/*.json"))
    assert records == ["analyze", "compress", "evaluate", "evaluate"]


def test_files_that_are_shown_shortened_say_so() -> None:
    """What is not a whole file is marked, and every other block of YAML is a file of the README."""
    for heading, text in re.findall(r"^```yaml(.*?)\n(.*?)^```$", README, re.M | re.DOTALL):
        assert ("..." in text) == (heading.strip() == "shortened"), text


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


def test_the_tree_that_is_shown_leaves_no_folder_out() -> None:
    section = README.partition("## The house")[2].partition("## How to go on")[0]
    shown = set(re.findall(r"[\w.]+(?=/)|\w+\.py", section))
    packages = {path.parent.name for path in ROOT.glob("*/*/__init__.py")}
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"examples", "tests"}
    flows = {path.name for path in (ROOT / "flows").glob("[!_]*.py")}
    assert packages | tops | flows <= shown


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
