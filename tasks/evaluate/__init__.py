"""Score a model on tasks: `scores = (await evaluate(EvaluateSpec(...))).scores`."""

from tasks.evaluate.spec import EvaluateResult, EvaluateSpec, Score

__all__ = ["EvaluateResult", "EvaluateSpec", "Score"]
