"""The compress step: quantize or prune a model by a recipe, and check what came out."""

from tasks.compress.spec import CompressResult, CompressSpec
from tasks.step import research_step

compress = research_step(
    name="compress",
    spec=CompressSpec,
    result=CompressResult,
    body="tasks.compress.body",
    packages=("torch", "transformers", "llmcompressor", "compressed-tensors"),
    uses_gpu=True,
)

__all__ = ["CompressResult", "CompressSpec", "compress"]
