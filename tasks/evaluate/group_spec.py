"""What to average: a tree whose leaves name scores, as a standard or a spec spells it.

    leaderboard:
      musr:
        leaderboard_musr_team_allocation: {metric: acc_norm, num_fewshot: 0, random_score: 0.333333}
      mmlu_pro: {task: leaderboard_mmlu_pro, metric: acc, num_fewshot: 5, random_score: 0.1}

A mapping of mappings is a group; written out it is `{members: {…}, average: weighted}`. What scores
make of such a tree is told in groups.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from tasks.spec import Frozen

NodeName = Annotated[str, StringConstraints(pattern=r"^[^/\s]+$")]
MetricLabel = Annotated[str, AfterValidator(lambda label: label.removesuffix(",none"))]


class Average(StrEnum):
    """What a group makes of its members' values v and weights w."""

    PLAIN = "plain"  # sum(w v) / n: the reference multiplies, and does not divide by weights
    WEIGHTED = "weighted"  # sum(w v) / sum(w)


class GroupTask(Frozen):
    """A leaf: one metric of one task of lm-eval's, or of one of its groups."""

    task: str | None = Field(default=None, description="lm-eval's name; None is the leaf's own.")
    metric: MetricLabel = Field(
        min_length=1, description="With its filter, if it has one: exact_match,strict-match."
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each question; None as the task has it."
    )
    random_score: float | None = Field(
        default=None, ge=0, lt=1, description="What guessing scores; None is not normalised."
    )
    weight: float = Field(default=1.0, gt=0, description="Factor in the average above.")
    items: str | None = Field(
        default=None,
        description="Name for a set of items that this task shares with others, whose errors then "
        "add up; None is the task's own.",
    )


def _is_short(value: Any) -> bool:
    """Whether it is a group without options: nothing but members."""
    return (
        isinstance(value, Mapping)
        and "members" not in value
        and len(value) > 0
        and all(isinstance(member, Mapping | GroupTask | Group) for member in value.values())
    )


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "group" if "members" in value or _is_short(value) else "task"
    return "task" if isinstance(value, GroupTask) else "group"


class Group(Frozen):
    """An average of tasks and of other groups."""

    members: dict[
        NodeName,
        Annotated[
            Annotated[GroupTask, Tag("task")] | Annotated[Group, Tag("group")],
            Discriminator(_kind),
        ],
    ] = Field(min_length=1, description="Tasks (they have a metric) and groups, by name.")
    average: Average = Field(
        default=Average.PLAIN,
        description="plain: sum of weight times score, by number; weighted: by sum of weights.",
    )
    clamp_at_zero: bool = Field(
        default=False, description="Tasks below guessing count as 0, in groups below too."
    )
    weight: float = Field(default=1.0, gt=0, description="Factor in the average above.")

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, value: Any) -> Any:
        return {"members": value} if _is_short(value) else value


def leaves(groups: Mapping[str, Group | GroupTask]) -> Iterator[tuple[str, GroupTask]]:
    """Every leaf, with lm-eval's name of its task."""
    for name, node in groups.items():
        if isinstance(node, GroupTask):
            yield node.task or name, node
        else:
            yield from leaves(node.members)


def shots(groups: Mapping[str, Group]) -> dict[str, int]:
    """Examples by task, or group of lm-eval's, where a leaf says how many."""
    return {task: leaf.num_fewshot for task, leaf in leaves(groups) if leaf.num_fewshot is not None}


def shot_conflicts(groups: Mapping[str, Group], num_fewshot: int | None) -> Iterator[str]:
    """Leaves that disagree with a number of examples for all tasks, or with each other."""
    wanted = shots(groups)
    for task, leaf in leaves(groups):
        if leaf.num_fewshot is None:
            continue
        if num_fewshot is not None and leaf.num_fewshot != num_fewshot:
            yield f"num_fewshot is {num_fewshot}, and groups says {leaf.num_fewshot} for {task}"
        elif leaf.num_fewshot != wanted[task]:
            yield f"groups says num_fewshot {leaf.num_fewshot} and {wanted[task]} for {task}"
