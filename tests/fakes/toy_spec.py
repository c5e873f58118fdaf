"""What the toy steps take and give; see `tests.fakes.steps`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tasks.artifacts import ArtifactRef, Input
from tasks.spec import DeviceKind, Result, Spec


class Manner(StrEnum):
    """How a toy body behaves."""

    ANSWERS = "answers"
    # It fails, and says so in one way or another.
    EXITS_3_IN_SILENCE = "exits_3_in_silence"
    EXITS_1_WITH_WORDS = "exits_1_with_words"
    SEGFAULTS = "segfaults"
    ALLOCATES = "allocates"
    SLEEPS = "sleeps"
    FORKS = "forks"
    # It ends well, and its answer is no good.
    LEAVES_NOTHING = "leaves_nothing"
    LEAVES_GARBAGE = "leaves_garbage"
    LEAVES_TORN_JSON = "leaves_torn_json"
    LEAVES_DEEP_JSON = "leaves_deep_json"
    LEAVES_A_FOLDER = "leaves_a_folder"
    LEAVES_NAN = "leaves_nan"
    LEAVES_ANOTHER_TYPE = "leaves_another_type"
    LISTS_GARBAGE = "lists_garbage"
    LISTS_A_LIST = "lists_a_list"
    LISTS_A_MISSING_FILE = "lists_a_missing_file"
    LISTS_AN_OUTSIDE_FILE = "lists_an_outside_file"
    NAMES_WHAT_IT_DOES_NOT_LIST = "names_what_it_does_not_list"
    NAMES_A_WRONG_DIGEST = "names_a_wrong_digest"
    # It answers, and makes noise.
    PRINTS_GARBAGE = "prints_garbage"
    PRINTS_ITS_ENVIRONMENT = "prints_its_environment"


class ToySpec(Spec):
    """A step that makes a file and a folder of numbers that follow from its seed."""

    seed: int = Field(default=0, description="Decides every byte of the result.")
    manner: Manner = Field(default=Manner.ANSWERS, description="How the body behaves.")
    num_bytes: int = Field(default=100, ge=0, description="Size of the file that it makes.")
    sleep_s: float = Field(default=0.0, ge=0, description="How long it takes.")
    source: Input | None = Field(default=None, description="What it reads, if anything.")
    device_kind: DeviceKind = Field(default=DeviceKind.CPU, description="What it pretends to use.")


class ToyResult(Result):
    """What a toy step found out."""

    number: float = Field(description="A number that follows from the seed.")
    read: str = Field(description="The digest of what it read, or nothing.")
    file: ArtifactRef = Field(description="A file.")
    folder: ArtifactRef = Field(description="A folder with two files.")


class CountSpec(Spec):
    """A step that counts, one unit at a time, and can be told to fail on its way."""

    num_units: int = Field(default=3, ge=1, description="How far to count.")
    unit_s: float = Field(default=0.0, ge=0, description="How long a unit takes.")
    loss: float | None = Field(default=None, description="What it reports as its loss.")
    loss_is_nan: bool = Field(default=False, description="Whether its loss is not a number.")
    fails_with: str = Field(default="", description="The words of the ValueError that it raises.")
    fails_with_bug: bool = Field(default=False, description="Whether it runs into a bug.")


class CountResult(Result):
    """How far it came."""

    num_units: int = Field(description="Units counted.")
    report: ArtifactRef = Field(description="A page that says so.")

    def overview(self) -> tuple[list[str], list[list[str]]]:
        """A table with one number, and a cell that Markdown would take for two."""
        return ["units", "note"], [[str(self.num_units), "a|b"]]
