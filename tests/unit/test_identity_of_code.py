"""The fingerprint of code sees what it does and not how it is written, on every Python."""

from __future__ import annotations

import ast
import gc
import random
import shutil
import subprocess
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import SpecError
from tasks.fingerprint import MACHINERY, closure, code_fingerprint, is_machinery
from tasks.syntax import Source, read_source

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted((CHECKOUT / "tasks").rglob("*.py"))
BODIES = [f"tasks.{path.parent.name}.body" for path in MODULES if path.name == "body.py"]
BODIES = [body for body in BODIES if body != "tasks.tasks.body"]


def digest(code: str) -> str:
    return read_source(textwrap.dedent(code).encode()).digest


class WithoutDocstrings(ast.NodeTransformer):
    """Takes docstrings away, and puts `pass` where nothing else is left."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert body is not None
            if ast.get_docstring(node, clean=False) is not None:
                node.body = [*body[1:]] or [ast.Pass()]
        return node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_comments_layout_and_docstrings_of_real_modules_do_not_count(path: Path) -> None:
    code = path.read_bytes()
    tree = ast.parse(code)
    rewritten = ast.unparse(WithoutDocstrings().visit(tree))
    assert read_source(rewritten.encode()).digest == read_source(code).digest


def test_any_changed_number_name_or_operator_of_a_real_module_counts() -> None:
    rng = random.Random(3)
    num_changes = 0
    for path in rng.sample(MODULES, k=min(25, len(MODULES))):
        code = path.read_bytes()
        before = read_source(code).digest
        nodes = list(ast.walk(ast.parse(code)))
        for index in rng.sample(range(len(nodes)), k=min(8, len(nodes))):
            tree = ast.parse(code)
            if change(list(ast.walk(tree))[index]):
                changed = ast.unparse(tree).encode()
                assert read_source(changed).digest != before, ast.dump(nodes[index])
                num_changes += 1
    assert num_changes > 30


def change(node: ast.AST) -> bool:
    """Make the node mean something else, if it is one that can."""
    match node:
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float()):
            node.value += 1
        case ast.Name() | ast.FunctionDef() | ast.ClassDef():
            field = "id" if isinstance(node, ast.Name) else "name"
            setattr(node, field, getattr(node, field) + "_other")
        case ast.arg():
            node.arg += "_other"
        case ast.Attribute():
            node.attr += "_other"
        case ast.Compare(ops=[ast.Lt() | ast.Eq() | ast.Is(), *_]):
            node.ops = [ast.GtE(), *node.ops[1:]]
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult()):
            node.op = ast.FloorDiv()
        case _:
            return False
    return True


EVERYTHING = '''
"""A docstring."""
from __future__ import annotations
import os, sys as system
from . import sibling
from ..above import one as two

@decorated(1, *a, key=None, **b)
async def f(x: int, /, y=1.5, *args: str, z=-2, **kwargs) -> dict[str, "A"]:
    """Says."""
    async with a as b, c: pass
    return f"{x!r:>{width}} a" "b" f"{y=}" + rb"\\x00".decode() + "é\\U0001f600\\udc00"

class A(B, metaclass=C):
    """Says."""
    field: int = Field(default=3, description="words")
    "words about the field"
    other = {**a, 1: 2, "k": (1, 2j, ..., None, True)}

match command:
    case [1, *rest] | {"k": A(x=0), **others} if rest: ...
    case _: raise ValueError("x") from None
try:
    del a[1:2:3], b.c
except* (OSError, E) as error:
    lambda q, *, r=1: (yield)
while x := g(): break
else: [i for i in range(0x_ff) if i not in (0b11, 1e3) for _ in i]
'''


def test_digest_is_the_same_on_every_python_and_for_good() -> None:
    """Pinned: a change here makes every result of every user be computed anew."""
    assert digest(EVERYTHING).startswith("2f4cf4a264fc7357")


OTHER_PYTHON = """
import sys
from tasks.fingerprint import code_fingerprint
from tasks.syntax import read_source
print(read_source(sys.stdin.buffer.read()).digest)
for body in sys.argv[1:]:
    print(code_fingerprint(body))
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_other_pythons_agree(version: str) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} on PATH")
    done = subprocess.run(
        [python, "-c", OTHER_PYTHON, *BODIES],
        input=EVERYTHING.encode(),
        env={"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    expected = [digest(EVERYTHING), *(code_fingerprint(body) for body in BODIES)]
    assert done.stdout.decode().split() == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("f(None)", "f()"),
        ("x = {**a, b: c}", "x = {a: None, b: c}"),
        ("def f(a, *, b): g()", "def f(a, b): g()"),
        ("def f(*, a=None, b): g()", "def f(*, a, b=None): g()"),
        ("from a import b", "import a.b"),
        ("from .a import b", "from ..a import b"),
        ("if x:\n    f()\ng()", "if x:\n    f()\n    g()"),
        ("f'{x}'", "f'{x!r}'"),
        ("g('description')", "g('other')"),
        ("g(description='a')", "g(description='b')"),
    ],
)
def test_what_means_something_else_counts(first: str, second: str) -> None:
    assert digest(first) != digest(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("class A: pass", 'class A:\n    """Says."""'),
        ("x = 'a'\n'about x'", "x = 'a'"),
        ("x = 'a' 'b'", "x = 'ab'"),
        ("x = f'{a}b' 'c'", "x = f'{a}bc'"),
        ("x = Field(1, description='a')", "x = Field(1, description='b')"),
        ("x = u'a'", 'x = "a"'),
        ("x = 1_000", "x = 1000"),
        ("f(a,\n  b,)  # words", "f(a, b)"),
    ],
)
def test_what_means_the_same_does_not_count(first: str, second: str) -> None:
    assert digest(first) == digest(second)


# -- the closure -----------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "tasks/__init__.py": "",
        "tasks/errors.py": "from tasks import unseen",
        "tasks/unseen.py": "x = 1",
        "tasks/common.py": "x = 1",
        "tasks/other.py": "x = 1",
        "tasks/count/__init__.py": "from tasks.errors import E\nbody = 'tasks.count.body'",
        "tasks/count/body.py": "from . import words\nfrom tasks.count.spec import S\nimport torch",
        "tasks/count/words.py": "def f():\n    from tasks import common\n",
        "tasks/count/spec.py": "if x:\n    from .rules.deep import rule",
        "tasks/count/rules/__init__.py": "",
        "tasks/count/rules/deep.py": "argv = ['-m', 'tasks.count.server']",
        "tasks/count/server.py": "import tasks.errors",
    }
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return tmp_path


def test_closure_holds_every_way_to_name_a_module_and_no_machinery(tree: Path) -> None:
    assert set(closure("tasks.count.body", tree)) == {
        "tasks",
        "tasks.common",
        "tasks.count",
        "tasks.count.body",
        "tasks.count.rules",
        "tasks.count.rules.deep",
        "tasks.count.server",
        "tasks.count.spec",
        "tasks.count.words",
    }


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("common", True),
        ("count/__init__", True),
        ("count/rules/deep", True),
        ("count/server", True),
        ("other", False),
        ("unseen", False),
        ("errors", False),
    ],
)
def test_code_counts_exactly_if_the_body_may_import_it(tree: Path, name: str, counts: bool) -> None:
    before = code_fingerprint("tasks.count.body", tree)
    path = tree / "tasks" / f"{name}.py"
    path.write_text(path.read_text() + "\ny = 2\n")
    assert (code_fingerprint("tasks.count.body", tree) != before) == counts


def test_page_that_a_body_fills_in_counts_from_the_moment_that_it_is_there(tree: Path) -> None:
    digests = [code_fingerprint("tasks.count.body", tree)]
    templates = tree / "tasks/count/templates"
    templates.mkdir()
    for text in ("<p>one</p>", "<p>two</p>"):
        (templates / "page.html").write_text(text)
        digests.append(code_fingerprint("tasks.count.body", tree))
    assert len(set(digests)) == 3
    (templates / "page.html").unlink()
    assert code_fingerprint("tasks.count.body", tree) == digests[0]


def test_module_that_appears_later_counts(tree: Path) -> None:
    before = code_fingerprint("tasks.count.body", tree)
    (tree / "tasks/count/spec").mkdir()
    (tree / "tasks/count/spec/__init__.py").write_text("from tasks import other")
    assert "tasks.other" in closure("tasks.count.body", tree)
    assert code_fingerprint("tasks.count.body", tree) != before


@pytest.mark.parametrize(
    "code",
    [
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module\nimport_module(f'{package}.x')",
        "from importlib import import_module as load\nload('tasks.x')",
        "__import__(name)",
        "import runpy\nrunpy.run_module('tasks.' + name)",
        "import_module(f'tasks.{name}')",
        "import_module('.x', package)",
        "from tasks.common import *",
    ],
)
def test_imports_that_only_a_run_can_tell_are_refused_with_their_line(
    tree: Path, code: str
) -> None:
    (tree / "tasks/common.py").write_text(f"x = 1\n{code}\n")
    with pytest.raises(SpecError, match=r"common\.py:[23]: .*imports what only a run can tell"):
        code_fingerprint("tasks.count.body", tree)


def test_computed_name_below_a_package_of_others_is_fine(tree: Path) -> None:
    (tree / "tasks/common.py").write_text("import_module(f'llmcompressor.{name}')")
    assert code_fingerprint("tasks.count.body", tree)


def test_missing_modules_and_broken_code_are_refused_with_their_line(tree: Path) -> None:
    (tree / "tasks/common.py").write_text("\nimport tasks.nowhere\n")
    with pytest.raises(SpecError, match=r"common\.py:2: imports tasks\.nowhere, which does not"):
        code_fingerprint("tasks.count.body", tree)
    (tree / "tasks/common.py").write_text("\n\nx = = 1\n")
    with pytest.raises(SpecError, match=r"common\.py:3"):
        code_fingerprint("tasks.count.body", tree)
    with pytest.raises(SpecError, match="no such module"):
        code_fingerprint("tasks.count.nobody", tree)


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_module_that_counts_imports_what_only_a_run_can_tell(path: Path) -> None:
    assert is_machinery(module_name(path)) or not read_source(path.read_bytes()).unknown_imports


def test_every_body_has_a_fingerprint_with_itself_in_it() -> None:
    assert len({code_fingerprint(body) for body in BODIES}) == len(BODIES)
    for body in BODIES:
        assert body in closure(body)
        assert not [name for name in closure(body) if is_machinery(name)]


def test_machinery_is_what_exists() -> None:
    for name in MACHINERY:
        path = CHECKOUT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_unchanged_code_is_read_once_a_process(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(code: bytes) -> Source:
        read.append(code)
        return read_source(code)

    monkeypatch.setattr("tasks.fingerprint.read_source", counting)
    for _ in range(3):
        code_fingerprint("tasks.count.body", tree)
    assert len(read) == len(closure("tasks.count.body", tree))


def test_many_threads_parse_at_once() -> None:
    """Steps side by side compute their identities side by side, whatever a garbage collection does.

    A callback that sleeps lets another thread in while a syntax tree is being made.
    """
    code = "\n".join(
        f"def f{n}(a, b): return [c for c in b if a.d(c)]" for n in range(150)
    ).encode()

    def let_others_in(phase: str, info: dict[str, int]) -> None:
        time.sleep(0.001)

    gc.callbacks.append(let_others_in)
    try:
        with ThreadPoolExecutor(8) as threads:
            digests = {source.digest for source in threads.map(read_source, [code] * 48)}
    finally:
        gc.callbacks.remove(let_others_in)
    assert len(digests) == 1
