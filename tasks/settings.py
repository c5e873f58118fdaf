"""Settings of a user and a machine: one object, from variables, a `.env` file and a settings file.

Precedence: `LABWRIGHT_*` environment variables, then `.env` in the current folder, then
`<home>/settings.yaml`, then the defaults. Nothing here changes what a step computes.

    settings().home            # the one folder where everything of a user lies
"""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tasks.documents import Document, Location, Mark, load_yaml
from tasks.errors import Problem, SpecError, nearest
from tasks.problems import problems_from

DEFAULT_HOME = "~/.labwright"
PREFIX = "LABWRIGHT_"
DOTENV = ".env"


class EnvironmentName(StrEnum):
    """What labwright is run for; every record and `labwright doctor` say it."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


def default_max_parallel_steps() -> int:
    """Two steps side by side, more where there are many cores: each body uses several."""
    return max(2, (os.cpu_count() or 1) // 4)


class Settings(BaseSettings):
    """Everything that may differ between users and machines."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=DOTENV, env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Field(
        default=Path(DEFAULT_HOME),
        description="Folder that holds the store, runs, environments and the server's database.",
    )
    environment: EnvironmentName = Field(
        default=EnvironmentName.DEVELOPMENT,
        description="development, staging or production; stands in every record's provenance.",
    )
    standards_folder: Path | None = Field(
        default=None, description="Folder with a lab's own standards, one YAML file each."
    )
    max_parallel_steps: int = Field(
        default_factory=default_max_parallel_steps,
        ge=1,
        description="How many independent steps of one run may run side by side.",
    )
    server_port: int = Field(
        default=4200,
        ge=1024,
        le=65535,
        description="Port of the embedded Prefect server, from 1024 to 65535.",
    )
    server_idle_minutes: float = Field(
        default=30.0,
        gt=0,
        description="Minutes of idleness after which the embedded server ends itself.",
    )
    llm_base_url: str | None = Field(
        default=None,
        description="OpenAI-compatible endpoint that writes prose over facts, up to its /v1.",
    )
    llm_model: str | None = Field(default=None, description="Name of the model to ask there.")
    llm_api_key: SecretStr | None = Field(
        default=None, description="Key of that endpoint; sent to it, and kept nowhere."
    )
    llm_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds after which its answer is no longer waited for."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables, then `.env`, then the settings file; no secrets folder."""
        file = _settings_file(_home_in({**dotenv_settings(), **env_settings()}))
        file_settings = InitSettingsSource(settings_cls, init_kwargs=file.value)
        return init_settings, env_settings, dotenv_settings, file_settings


def settings() -> Settings:
    """The settings as they stand now; read afresh, as tests and tools change variables."""
    try:
        found = Settings()
        return found.model_copy(update={"home": _expanded(found.home)})
    except ValidationError as error:
        raise _in_words(error) from error
    except UnicodeDecodeError as error:  # the settings file has words of its own
        raise SpecError([Problem("is not UTF-8 text", str(Path(DOTENV).absolute()))]) from error
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror}", str(error.filename))]) from (
            error
        )


def _home_in(given: dict[str, object]) -> Path:
    return _expanded(Path(str(given.get("home", DEFAULT_HOME))))


def _expanded(home: Path) -> Path:
    try:
        return home.expanduser().absolute()
    except RuntimeError as error:
        message = f"there is no such user's folder: {home}"
        raise SpecError([Problem(message, f"{PREFIX}HOME")]) from error


def _settings_file(home: Path) -> Document:
    """The settings file, an empty one where there is none; raises `SpecError` with its lines."""
    path = home / "settings.yaml"
    if not path.exists():
        return Document(path, "", {}, {})
    document = load_yaml(path)
    if document.value is None:
        return document.with_value({}, document.marks)
    if not isinstance(document.value, dict):
        raise SpecError([document.problem((), "must be a mapping of settings")])
    valid = [name for name in Settings.model_fields if name != "home"]
    unknown = [key for key in document.value if key not in valid]
    if unknown:
        choices = f"; there are {', '.join(valid)}"
        raise SpecError(
            document.problem((key,), f"unknown setting{nearest(key, valid) or choices}")
            for key in unknown
        )
    return document


def _in_words(error: ValidationError) -> SpecError:
    """What is wrong, under the name of the variable or the line of the file that says it."""
    variables = EnvSettingsSource(Settings)()
    dotenv = DotEnvSettingsSource(Settings)()
    marks: dict[Location, Mark] = dict(_settings_file(_home_in({**dotenv, **variables})).marks)
    given = {str(details["loc"][0]): details["input"] for details in error.errors()}
    for name in given:
        variable = f"{PREFIX}{name}".upper()
        if name in variables:
            marks[(name,)] = Mark(f"environment variable {variable}", None, None)
        elif name in dotenv:
            marks[(name,)] = Mark(f"{Path(DOTENV).absolute()}: {variable}", None, None)
    problems = []
    for problem in problems_from(error, Document(Path("settings"), "", given, marks), (), Settings):
        meaning = (Settings.model_fields[problem.key].description or "").rstrip(".")
        words = f"{problem.message} ({meaning})"
        problems.append(replace(problem, message=words, key=problem.key if problem.line else ""))
    return SpecError(problems)
