"""Evaluate: scores of a model on lm-eval tasks, with standard errors and every item behind them.

    result = await evaluate(EvaluateSpec(model=..., task_folder=..., tasks=("heldout_text",)))
    result.score("heldout_text", "bits_per_byte").value

`spec.py` says what is asked and answered, `harness.py` talks to lm-eval, `models.py` loads or
serves the model, `scores.py` makes scores out of items, `mirror.py` lays out standard data.
"""

from tasks.evaluate.check import check
from tasks.evaluate.options import Backend
from tasks.evaluate.spec import EvaluateResult, EvaluateSpec, Score
from tasks.step import research_step

evaluate = research_step(
    name="evaluate",
    spec=EvaluateSpec,
    result=EvaluateResult,
    body="tasks.evaluate.body",
    packages=("lm-eval", "torch", "transformers", "tokenizers", "datasets", "compressed-tensors"),
    serve_packages=("vllm", "torch"),
    serves=lambda spec: spec.backend is Backend.VLLM,
    check=check,
    uses_gpu=True,
)

__all__ = ["EvaluateResult", "EvaluateSpec", "Score", "evaluate"]
