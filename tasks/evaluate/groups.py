"""Averages over tasks, nested, with what guessing would score taken out and errors carried through.

A tree says what to average; its leaves name scores, and one lm-eval result fills it in:

    groups = {"bbh": Group(members={"navigate": GroupTask(task="leaderboard_bbh_navigate",
                                                          metric="acc_norm", random_score=0.5)})}
    for node in score_groups(groups, result.scores):
        print(node.path, node.value, node.stderr)         # bbh, then bbh/navigate

A leaf with a random score r is normalised, (s - r) / (1 - r): 0 is guessing, 1 is perfect, and
below guessing is below 0. A group of which any task is missing has no score, and says why.

Standard errors take tasks of different items for independent: the error of sum(c_i s_i) is
sqrt(sum(c_i^2 e_i^2)). Leaves that share items (two metrics of one task, or a common `items`) may
go up and down together: among them errors add up, sum(|c_i| e_i), which no correlation exceeds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import Field

from tasks.evaluate.group_spec import Average, Group, GroupTask
from tasks.spec import Frozen

MAX_NAMED = 3  # names that a message gives before it counts the rest


class GroupScore(Frozen):
    """One node of a tree, filled in. Nodes come depth first, a group before its members."""

    path: str = Field(description="Names from the root: leaderboard/bbh.")
    value: float | None = Field(description="Normalised score or average; None says why.")
    stderr: float | None = Field(
        ge=0, description="Standard error; where items are shared, the largest that it can be."
    )
    reason: str | None = Field(description="Why there is no value, or no standard error.")
    num_items: int | None = Field(
        description="Items scored by all leaves; None where tasks are missing."
    )
    num_tasks: int = Field(ge=1, description="Leaves below; 1 for a leaf.")
    factor: float = Field(
        default=1.0, gt=0, description="By which it counts in the average above; 1 for a root."
    )
    is_clamped: bool = Field(default=False, description="Below guessing, and counted as 0.")
    task: str | None = Field(default=None, description="Of a leaf: lm-eval's name of the task.")
    metric: str | None = Field(default=None, description="Of a leaf: metric with its filter.")
    score: float | None = Field(default=None, description="Of a leaf: the score as it was.")
    random_score: float | None = Field(default=None, description="Of a leaf: what guessing scores.")
    items: str | None = Field(default=None, description="Of a leaf: name of its set of items.")
    shared_items: tuple[str, ...] = Field(
        default=(), description="Sets of items that several leaves below share."
    )

    @property
    def depth(self) -> int:
        """0 for a root."""
        return self.path.count("/")

    @property
    def is_group(self) -> bool:
        return self.task is None


class Measured(Protocol):
    """What a tree is filled in from: `Score` is one."""

    @property
    def task(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def stderr(self) -> float | None: ...
    @property
    def num_items(self) -> int: ...
    @property
    def higher_is_better(self) -> bool | None: ...


class _Node(NamedTuple):
    """A filled-in node with its subtree, and its error by the items that it comes from."""

    scores: tuple[GroupScore, ...]  # its own first
    errors: Mapping[str, float] | None  # set of items -> error; None where one is not known
    sources: Counter[str]  # set of items -> number of leaves
    missing: tuple[str, ...]  # why leaves have no value

    @property
    def score(self) -> GroupScore:
        return self.scores[0]

    def counted(self, factor: float) -> _Node:
        """The same as a member of an average that counts it so."""
        own = self.score.model_copy(update={"factor": factor})
        return self._replace(scores=(own, *self.scores[1:]))


def score_groups(groups: Mapping[str, Group], scores: Iterable[Measured]) -> tuple[GroupScore, ...]:
    """Every node of every tree, in the order of the trees."""
    measured = {(score.task, score.label): score for score in scores}
    return tuple(
        node
        for name, group in groups.items()
        for node in _score_group(name, group, measured, clamp=False).scores
    )


def _score_group(
    path: str, group: Group, measured: Mapping[tuple[str, str], Measured], *, clamp: bool
) -> _Node:
    clamp = clamp or group.clamp_at_zero
    members = [
        _score_task(f"{path}/{name}", name, member, measured, clamp=clamp)
        if isinstance(member, GroupTask)
        else _score_group(f"{path}/{name}", member, measured, clamp=clamp)
        for name, member in group.members.items()
    ]
    weights = [member.weight for member in group.members.values()]
    total = math.fsum(weights) if group.average is Average.WEIGHTED else len(weights)
    factors = [weight / total for weight in weights]
    members = [member.counted(factor) for member, factor in zip(members, factors, strict=True)]
    missing = tuple(reason for member in members for reason in member.missing)
    errors = _combined(factors, members)
    sources = sum((member.sources for member in members), Counter[str]())
    score = GroupScore(
        path=path,
        value=None if missing else _dot(factors, [member.score.value for member in members]),
        stderr=None if missing or errors is None else math.hypot(*errors.values()),
        reason=_reason(missing, sources.total(), members),
        num_items=None if missing else sum(member.score.num_items or 0 for member in members),
        num_tasks=sources.total(),
        shared_items=tuple(name for name, number in sources.items() if number > 1),
    )
    below = tuple(node for member in members for node in member.scores)
    return _Node((score, *below), errors, sources, missing)


def _dot(factors: Sequence[float], values: Sequence[float | None]) -> float:
    return math.fsum(
        factor * value
        for factor, value in zip(factors, values, strict=True)
        if value is not None  # none is: a group with a missing task is not averaged
    )


def _combined(factors: Sequence[float], members: Sequence[_Node]) -> dict[str, float] | None:
    """Errors of the average by set of items; None where a member's are not known."""
    errors: dict[str, float] = defaultdict(float)
    for factor, member in zip(factors, members, strict=True):
        if member.errors is None:
            return None
        for items, error in member.errors.items():
            errors[items] += factor * error
    return errors


def _reason(missing: Sequence[str], num_tasks: int, members: Sequence[_Node]) -> str | None:
    """Why a group has no value or no standard error; None where it has both."""
    if missing:
        return f"{len(missing)} of {num_tasks} tasks have no score: {_listed(missing)}"
    unknown = [member.score.path for member in members if member.errors is None]
    return f"no standard error of {_listed(unknown)}" if unknown else None


def _listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`"""
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _score_task(
    path: str,
    name: str,
    leaf: GroupTask,
    measured: Mapping[tuple[str, str], Measured],
    *,
    clamp: bool,
) -> _Node:
    task = leaf.task or name
    found = measured.get((task, leaf.metric))
    reason = _unfit(task, leaf, found, measured)
    value = stderr = None
    is_clamped = False
    if found is not None and reason is None:
        guessing = leaf.random_score or 0.0
        value = (found.value - guessing) / (1 - guessing)
        # max(0, x) moves no further than x does: the error of x bounds that of a clamped x.
        stderr = None if found.stderr is None else found.stderr / (1 - guessing)
        is_clamped = clamp and value < 0
    items = leaf.items or task
    score = GroupScore(
        path=path,
        value=0.0 if is_clamped else value,
        stderr=stderr,
        reason=reason if value is None or stderr is not None else "lm-eval gives no standard error",
        num_items=found.num_items if found is not None else None,
        num_tasks=1,
        is_clamped=is_clamped,
        task=task,
        metric=leaf.metric,
        score=None if found is None else found.value,
        random_score=leaf.random_score,
        items=items,
    )
    errors = None if stderr is None else {items: stderr}
    return _Node(
        (score,), errors, Counter([items]), () if value is not None else (f"{task} {reason}",)
    )


def _unfit(
    task: str,
    leaf: GroupTask,
    found: Measured | None,
    measured: Mapping[tuple[str, str], Measured],
) -> str | None:
    """Why a leaf has no value; None where it has one."""
    if found is None:
        known = [label for name, label in measured if name == task]
        return f"has no {leaf.metric}, only {_listed(known)}" if known else "was not evaluated"
    if found.higher_is_better is False:
        return f"is better where {leaf.metric} is lower, and cannot be averaged with scores"
    if leaf.random_score is not None and not 0 <= found.value <= 1:
        return f"has {leaf.metric} {found.value:g}, which is no share to take guessing out of"
    return None
