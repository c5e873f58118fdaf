"""What an average is made of: scores of tasks, each with its factor, so that items can be paired.

    sum(p.factor * (score(p) - p.random_score) / (1 - p.random_score) for p in average.parts)

is the average again. Those of lm-eval's own groups are found by their sizes and held against its
number; a group that adds up in another way has no parts, rather than wrong ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.evaluate.groups import GroupScore
from tasks.evaluate.spec import Score, ScorePart


def parts_of_node(
    group: GroupScore, nodes: Iterable[GroupScore], scores: Iterable[Score]
) -> tuple[ScorePart, ...]:
    """The parts of one node of a tree, given all of its nodes and the scores that filled it in."""
    by_path = {node.path: node for node in nodes}
    known = {(score.task, score.label): score for score in scores}
    return tuple(
        part
        for node in by_path.values()
        if not node.is_group and node.path.startswith(f"{group.path}/")
        for part in _parts_of_leaf(node, _factor(node.path, group.path, by_path), known)
    )


def _factor(path: str, root: str, nodes: Mapping[str, GroupScore]) -> float:
    """Product of the factors on the way from a leaf up to, and without, the root."""
    factor = 1.0
    while path != root:
        factor *= nodes[path].factor
        path = path.rpartition("/")[0]
    return factor


def _parts_of_leaf(
    leaf: GroupScore, factor: float, known: Mapping[tuple[str, str], Score]
) -> Iterator[ScorePart]:
    assert leaf.task is not None
    assert leaf.metric is not None
    own = ScorePart(
        task=leaf.task,
        metric=leaf.metric,
        factor=factor,
        random_score=leaf.random_score or 0.0,
        items=leaf.items or leaf.task,
        is_clamped=leaf.is_clamped,
    )
    inner = known[leaf.task, leaf.metric].parts
    if not inner:
        yield own
    for part in inner:  # the leaf is a group of lm-eval's; its factors add up to 1
        items = part.items if own.items == own.task else own.items
        yield own.model_copy(
            update={"task": part.task, "items": items, "factor": factor * part.factor}
        )


def parts_of_lm_eval_group(
    value: float, label: str, subtasks: Sequence[str], scores: Iterable[Score]
) -> tuple[ScorePart, ...]:
    """Shares of lm-eval's mean over subtasks, by size or plain; none where neither is `value`."""
    known = {score.task: score for score in scores if score.label == label}
    members = [known[task] for task in subtasks if task in known]
    if not members:
        return ()
    for sizes in ([score.num_items for score in members], [1] * len(members)):
        total = sum(sizes)
        mean = math.fsum(size * score.value for size, score in zip(sizes, members, strict=True))
        if math.isclose(mean / total, value, rel_tol=1e-9, abs_tol=1e-9):
            return tuple(
                ScorePart(task=score.task, metric=label, factor=size / total, items=score.task)
                for size, score in zip(sizes, members, strict=True)
            )
    return ()


def leaf_tasks(name: str, subtasks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The tasks below a group of lm-eval's, its groups of groups looked into, each once."""
    below = subtasks.get(name, ())
    if not below:
        return (name,)
    found = (task for member in below for task in leaf_tasks(member, subtasks))
    return tuple(dict.fromkeys(found))
