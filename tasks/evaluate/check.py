"""What must hold of an evaluation's result, checked again outside the process that made it.

Every line of samples.jsonl belongs to a score, items stand once, and what they add up to is the
score, to nine digits.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tasks.artifacts import ArtifactRef
from tasks.evaluate.spec import EvaluateResult, EvaluateSpec


def check(
    _spec: EvaluateSpec, result: EvaluateResult, open_artifact: Callable[[ArtifactRef], Path]
) -> None:
    """ValueError, in words, where scores and samples do not belong together."""
    scores = {(score.task, score.label): score for score in result.scores}
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
