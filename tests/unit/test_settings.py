"""Settings: one object, four sources in one order, and words for what is wrong in any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import SpecError
from tasks.settings import EnvironmentName, settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABWRIGHT_SERVER_PORT", raising=False)


def test_variables_win_over_dotenv_over_the_settings_file_over_defaults(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings().server_port == 4200
    (home / "settings.yaml").write_text("server_port: 5001\nserver_idle_minutes: 7\n")
    assert settings().server_port == 5001
    (tmp_path / ".env").write_text("LABWRIGHT_SERVER_PORT=5002\n")
    assert settings().server_port == 5002
    monkeypatch.setenv("LABWRIGHT_SERVER_PORT", "5003")
    assert settings().server_port == 5003
    assert settings().server_idle_minutes == 7


def test_home_is_absolute_whatever_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", "some/where")
    assert settings().home == Path.cwd() / "some" / "where"
    monkeypatch.setenv("LABWRIGHT_HOME", "~/lab")
    assert settings().home == Path.home() / "lab"
    monkeypatch.delenv("LABWRIGHT_HOME")
    assert settings().home == Path.home() / ".labwright"


@pytest.mark.parametrize("name", list(EnvironmentName))
def test_the_three_environments(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LABWRIGHT_ENVIRONMENT", name)
    assert settings().environment == name


def test_a_wrong_value_names_its_variable_and_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_ENVIRONMENT", "prod")
    monkeypatch.setenv("LABWRIGHT_MAX_PARALLEL_STEPS", "0")
    with pytest.raises(SpecError) as caught:
        settings()
    words = str(caught.value)
    assert "LABWRIGHT_ENVIRONMENT" in words
    assert "'prod'" in words
    assert "one of development, staging, production" in words
    assert "LABWRIGHT_MAX_PARALLEL_STEPS" in words, "all that is wrong is told at once"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nserver_prot: 4201", r"settings\.yaml:2:1: server_prot: .*did you mean 'server_port'"),
        ("- a\n- b", r"settings\.yaml:1:1: must be a mapping of settings"),
        ("server_port: 1\na: [", r"settings\.yaml:2:5: is not valid YAML"),
        (
            "server_port: !!python/object:os.system {}",
            r"settings\.yaml:1:14: server_port: tag .* not",
        ),
        ("home: /elsewhere", r"settings\.yaml:1:1: home: unknown setting; there are environment"),
        ("\nserver_port: 12", r"settings\.yaml:2:1: server_port: must be at least 1024, found 12"),
    ],
)
def test_a_wrong_settings_file_is_named(home: Path, text: str, words: str) -> None:
    (home / "settings.yaml").write_text(text)
    with pytest.raises(SpecError, match=words):
        settings()


@pytest.mark.parametrize(
    ("value", "words"),
    [("abc", "must be a whole number"), ("0", "must be at least"), ("99999", "must be at most")],
)
def test_a_wrong_variable_is_one_line_with_its_name_its_value_and_what_is_valid(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("LABWRIGHT_SERVER_PORT", value)
    with pytest.raises(SpecError) as caught:
        settings()
    (problem,) = caught.value.problems
    line = str(problem)
    assert line.startswith(f"environment variable LABWRIGHT_SERVER_PORT: {words}")
    assert f"found '{value}'" in line
    assert "from 1024 to 65535" in line
    assert "\n" not in line


def test_a_wrong_value_in_dotenv_names_that_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LABWRIGHT_SERVER_PORT=99x\n")
    with pytest.raises(SpecError, match=r"/\.env: LABWRIGHT_SERVER_PORT: must be a whole number"):
        settings()


def test_a_dotenv_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfeA=1\n")
    with pytest.raises(SpecError, match=r"/\.env: is not UTF-8 text"):
        settings()


def test_a_home_of_nobody_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", "~nobody-of-that-name/lab")
    with pytest.raises(SpecError, match="LABWRIGHT_HOME: there is no such user's folder"):
        settings()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABWRIGHT_HOME", "")
    assert settings().home == Path.home() / ".labwright"
