"""Settings of a user and a machine: one object, from variables, a `.env` file and a settings file.

Precedence: `LABWRIGHT_*` environment variables, then `.env` in the current folder, then
`<home>/settings.yaml`, then the defaults. Nothing here changes what a step computes.

    settings().home            # the one folder where everything of a user lies
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tasks.errors import Problem, SpecError, nearest

DEFAULT_HOME = "~/.labwright"


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
        env_prefix="LABWRIGHT_", env_file=".env", extra="ignore", frozen=True
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
        description="Independent steps of one run that may run side by side.",
    )
    server_port: int = Field(
        default=4200, ge=1024, le=65535, description="Port of the embedded Prefect server."
    )
    server_idle_minutes: float = Field(
        default=30.0, gt=0, description="Idle time after which the embedded server ends itself."
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
        given = {**dotenv_settings(), **env_settings()}
        home = Path(given.get("home", DEFAULT_HOME)).expanduser()
        file = InitSettingsSource(settings_cls, init_kwargs=_read_settings_file(home))
        return init_settings, env_settings, dotenv_settings, file


def _read_settings_file(home: Path) -> dict[str, object]:
    path = home / "settings.yaml"
    if not path.exists():
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {error}", source=str(path))]) from error
    if not isinstance(document, dict):
        raise SpecError([Problem("must be a mapping of settings", source=str(path))])
    valid = [name for name in Settings.model_fields if name != "home"]
    unknown = [key for key in document if key not in valid]
    if unknown:
        raise SpecError(
            Problem(f"unknown setting{nearest(str(key), valid)}", source=str(path), key=str(key))
            for key in unknown
        )
    return document


def settings() -> Settings:
    """The settings as they stand now; read afresh, as tests and tools change variables."""
    try:
        found = Settings()
    except ValidationError as error:
        raise SpecError(
            Problem(
                f"{item['msg']} (found {item['input']!r})",
                source="settings",
                key=f"LABWRIGHT_{'_'.join(str(part) for part in item['loc'])}".upper(),
            )
            for item in error.errors()
        ) from error
    return found.model_copy(update={"home": found.home.expanduser().absolute()})
