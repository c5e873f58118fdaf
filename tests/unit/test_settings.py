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
    assert "'development', 'staging' or 'production'" in words
    assert "LABWRIGHT_MAX_PARALLEL_STEPS" in words, "all that is wrong is told at once"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server_prot: 4201", r"settings\.yaml: server_prot: .*did you mean 'server_port'"),
        ("- a\n- b", r"settings\.yaml: must be a mapping of settings"),
        ("server_port: [", r"settings\.yaml: not valid YAML"),
        ("server_port: !!python/object:os.system {}", r"settings\.yaml: not valid YAML"),
        ("home: /elsewhere", r"settings\.yaml: home: unknown setting"),
    ],
)
def test_a_wrong_settings_file_is_named(home: Path, text: str, words: str) -> None:
    (home / "settings.yaml").write_text(text)
    with pytest.raises(SpecError, match=words):
        settings()
