"""What a script leaves is kept; what is the user's own stays where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.command import CommandSpec
from tasks.command.body import main
from tests.fakes.workbench import Workbench


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's, with files that must stay."""
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    (folder / "precious.csv").write_text("1,2")
    (folder / "deep" / "precious.csv").write_text("3,4")
    return folder


def leaves(code: str, *outputs: str) -> CommandSpec:
    return CommandSpec(script=["python", "-c", code], inputs={}, outputs=outputs)


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("pattern", ["data/*.csv", "data", "data/deep", "*/deep/*.csv"])
def test_what_a_script_only_links_to_is_not_moved_and_the_link_is_named(
    tmp_path: Path, mine: Path, pattern: str
) -> None:
    before = contents(mine)
    spec = leaves(f"import os; os.symlink({str(mine)!r}, 'data')", pattern)
    with pytest.raises(RuntimeError, match=r"nothing that matches .*; 'data' is a link"):
        Workbench(tmp_path).run(main, spec)
    assert contents(mine) == before


def test_what_lies_beside_a_link_is_kept(tmp_path: Path, mine: Path) -> None:
    before = contents(mine)
    code = (
        f"import os; os.mkdir('out'); os.symlink({str(mine)!r}, 'out/data');"
        "open('out/own.csv', 'w').write('own')"
    )
    bench = Workbench(tmp_path)
    for number, pattern in enumerate(("**/*", "out", "out/**/*.csv")):
        result = bench.run(main, leaves(code, pattern), f"run{number}")
        assert contents(bench.path(result.outputs)) == {"out/own.csv": "own"}
        assert result.num_files == 1
    assert contents(mine) == before
