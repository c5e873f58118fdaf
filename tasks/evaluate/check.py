"""What must hold of an evaluation's result, checked again outside the process that made it.

Every line of samples.jsonl belongs to a score, items stand once, and what they add up to is the
score, to nine digits; so do the parts of an average.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.artifacts import ArtifactRef
from tasks.evaluate.spec import EvaluateResult, EvaluateSpec, Score, ScorePart


def check(
    _spec: EvaluateSpec, result: EvaluateResult, open_artifact: Callable[[ArtifactRef], Path]
) -> None:
    """ValueError, in words, where scores and samples do not belong together."""
    scores = {(score.task, score.label): score for score in result.scores}
    for score in result.scores:
        if score.parts and not math.isclose(
            again := math.fsum(_part(part, scores) for part in score.parts),
            score.value,
            rel_tol=1e-9,
            abs_tol=1e-9,
        ):
            raise ValueError(f"{score.task}/{score.label} is {score.value}, its parts give {again}")
    items: dict[tuple[str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    with open_artifact(result.samples).open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            task, metric, item = line["task"], line["metric"], line["item"]
            if (task, metric) not in scores:
                raise ValueError(f"samples have {task}/{metric}, which has no score")
            if item in items[task, metric]:
                raise ValueError(f"samples have item {item} of {task}/{metric} twice")
            items[task, metric][item] = (line["numerator"], line["denominator"])
    for (task, metric), ratios in items.items():
        score = scores[task, metric]
        numerator = math.fsum(ratio[0] for ratio in ratios.values())
        denominator = math.fsum(ratio[1] for ratio in ratios.values())
        if len(ratios) != score.num_items or not math.isclose(
            numerator, score.value * denominator, rel_tol=1e-9, abs_tol=1e-9
        ):
            raise ValueError(
                f"{len(ratios)} samples of {task}/{metric} give {numerator}/{denominator}, "
                f"the score says {score.value} over {score.num_items}"
            )


def _part(part: ScorePart, scores: Mapping[tuple[str, str], Score]) -> float:
    if (part.task, part.metric) not in scores:
        raise ValueError(f"an average is said to be made of {part.task}/{part.metric}, no score")
    value = scores[part.task, part.metric].value
    guess = part.random_score
    return 0.0 if part.is_clamped else part.factor * (value - guess) / (1 - guess)
