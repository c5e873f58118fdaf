"""The two ends of every step: a frozen Spec goes in, a frozen Result comes out.

A Spec holds everything that may change the outcome and nothing else; a Placement says where and how
to run and never enters the identity.

    class CountSpec(Spec):
        text: Input = Field(description="The file to count words in.")

    class CountResult(Result):
        num_words: int = Field(ge=0, description="Words found.")
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Frozen(BaseModel):
    """Base of every value that labwright writes down: immutable, closed, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


class Spec(Frozen):
    """Everything that may change a step's outcome."""


class Result(Frozen):
    """What a step found out; files are named by `ArtifactRef`."""

    def overview(self) -> tuple[list[str], list[list[str]]] | None:
        """Headers and lines of the table that tells it to a person, where it has one."""
        return None


class DeviceKind(StrEnum):
    """The kind of device a body computes on; part of a spec where it changes numbers."""

    CPU = "cpu"
    CUDA = "cuda"


def local_device_kind() -> DeviceKind:
    """CUDA where this machine has an NVIDIA driver and hides no GPU from us, else CPU.

    Looks for the driver's control device, as importing torch to ask costs seconds.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return DeviceKind.CUDA if Path("/dev/nvidiactl").exists() and not hidden else DeviceKind.CPU


class Placement(Frozen):
    """Where and how a step runs. Never part of its identity."""

    pool: str | None = Field(
        default=None, description="Work pool; None runs in place, the only way yet."
    )
    gpus: int = Field(default=0, ge=0, description="Number of whole GPUs the body gets.")
    timeout_s: float | None = Field(
        default=None, gt=0, description="Deadline of the body in seconds; None is no deadline."
    )
    grace_s: float = Field(
        default=5.0, ge=0, description="Seconds between asking a body to end and killing it."
    )
    memory_gib: float | None = Field(
        default=None, gt=0, description="Limit of the body's memory in GiB; None is no limit."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Extra environment variables of the body."
    )
    image: str | None = Field(default=None, description="Container image, for pools that use one.")

    @field_validator("pool", "image")
    @classmethod
    def _runs_in_place(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("work pools are not available yet; leave it out to run here")
        return value
