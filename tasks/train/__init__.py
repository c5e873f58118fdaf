"""train: fit a causal language model to packed tokens, on a CPU or one GPU, resumable exactly."""

from tasks.step import research_step
from tasks.train.check import check
from tasks.train.spec import TrainResult, TrainSpec

train = research_step(
    name="train",
    spec=TrainSpec,
    result=TrainResult,
    body="tasks.train.body",
    packages=("numpy", "safetensors", "torch", "transformers"),
    check=check,
    uses_gpu=True,
)

__all__ = ["TrainResult", "TrainSpec", "train"]
