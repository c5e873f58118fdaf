"""Standards: found by name, versioned, a lab's own beside the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import standards
from tasks.errors import SpecError
from tasks.standards import StandardKind

OWN = """\
name: w3a16
version: 2
description: Three bits.
source: This lab.
content:
  modifiers:
    - GPTQModifier: {scheme: W3A16, ignore: [lm_head]}
"""


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "standards" / "compression"
    folder.mkdir(parents=True)
    monkeypatch.setenv("LABWRIGHT_STANDARDS_FOLDER", str(folder.parent))
    return folder


@pytest.mark.parametrize("standard", standards.every_standard(), ids=lambda s: s.name)
def test_each_shipped_standard_says_what_it_is_and_where_it_comes_from(
    standard: standards.Standard,
) -> None:
    assert standard.version >= 1
    assert len(standard.description) > 40
    assert standard.source
    assert standard.path.is_relative_to(standards.SHIPPED)


def test_shipped_standards_are_declared_as_package_data() -> None:
    import tomllib

    root = standards.SHIPPED.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["tasks"]
    covered = {path for pattern in patterns for path in standards.SHIPPED.parent.glob(pattern)}
    assert {standard.path for standard in standards.every_standard()} <= covered


def test_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(SpecError, match="did you mean 'fp8_dynamic'"):
        standards.load(StandardKind.COMPRESSION, "fp8_dynamc")
    with pytest.raises(SpecError, match="did you mean 'w4a16'"):
        standards.find("w4a61")


def test_a_lab_adds_a_standard_by_dropping_a_file(own_folder: Path) -> None:
    (own_folder / "w3a16.yaml").write_text(OWN)
    assert "w3a16" in standards.names(StandardKind.COMPRESSION)
    standard = standards.load(StandardKind.COMPRESSION, "w3a16")
    assert standard.version == 2
    assert standard.content["modifiers"][0]["GPTQModifier"]["scheme"] == "W3A16"


def test_a_lab_cannot_change_what_a_shipped_name_means(own_folder: Path) -> None:
    (own_folder / "w4a16.yaml").write_text(OWN.replace("w3a16", "w4a16"))
    with pytest.raises(SpecError, match=r"'w4a16' ships already; rename this file"):
        standards.load(StandardKind.COMPRESSION, "w4a16")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("name: w3a16", "name: w3"), r"w3a16\.yaml:1:1: name: must be the file's name"),
        (("version: 2", "version: 0"), r"w3a16\.yaml:2:1: version: .*at least 1"),
        (("source:", "sorce:"), r"w3a16\.yaml:4:1: sorce: .*did you mean 'source'"),
        (("description: Three", "description: 'Three"), r"w3a16\.yaml:\d"),
    ],
)
def test_a_broken_standard_is_named_with_its_line(
    own_folder: Path, change: tuple[str, str], words: str
) -> None:
    (own_folder / "w3a16.yaml").write_text(OWN.replace(*change))
    with pytest.raises(SpecError, match=words):
        standards.load(StandardKind.COMPRESSION, "w3a16")


def test_a_missing_folder_is_an_error_not_an_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_STANDARDS_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="no such folder"):
        standards.names(StandardKind.COMPRESSION)
