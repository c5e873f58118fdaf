"""What one request of a benchmark is: how many tokens go in, and how many are wanted back.

    Workload(prompt_tokens=64, output_tokens={"mean": 128, "stdev": 16})

A spec also takes the name of a standard, whose content takes its place.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from tasks.errors import SpecError
from tasks.spec import Frozen
from tasks.standards import StandardKind, load


class TokenCount(Frozen):
    """How many tokens each request has: normal around the mean, cut at both ends."""

    mean: int = Field(ge=1, description="Tokens on average; all requests' where stdev is 0.")
    stdev: int = Field(default=0, ge=0, description="Standard deviation in tokens.")
    min: int | None = Field(default=None, ge=1, description="Fewest tokens; None is mean-5 stdev.")
    max: int | None = Field(default=None, ge=1, description="Most tokens; None is mean+5 stdev.")

    @property
    def most(self) -> int:
        """No request has more tokens than this."""
        return self.max if self.max is not None else self.mean + 5 * self.stdev

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.stdev == 0 and (self.min is not None or self.max is not None):
            raise ValueError("min and max cut what stdev spreads; give stdev too, or neither")
        if (self.min or 1) > self.most:
            raise ValueError(f"min is {self.min}, above the most tokens, {self.most}")
        return self


def _plain_count(value: Any) -> Any:
    return {"mean": value} if isinstance(value, int) and not isinstance(value, bool) else value


Tokens = Annotated[TokenCount, BeforeValidator(_plain_count)]


class Workload(Frozen):
    """What one request is: synthetic text of so many tokens, so many tokens wanted back."""

    prompt_tokens: Tokens = Field(description="A number, or mean, stdev, min and max.")
    output_tokens: Tokens = Field(description="A number, or mean, stdev, min and max.")


def _standard_workload(value: Any) -> Any:
    """The content of a standard takes the place of its name: the content is what is measured."""
    if not isinstance(value, str):
        return value
    try:
        return load(StandardKind.BENCHMARKING, value).content["workload"]
    except SpecError as error:
        raise ValueError(str(error)) from error


WorkloadOrName = Annotated[Workload, BeforeValidator(_standard_workload)]
