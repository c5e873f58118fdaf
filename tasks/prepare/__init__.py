"""prepare: from raw text and a model source to a tokenizer, tokens, splits and held-out tasks."""

from tasks.prepare.check import check
from tasks.prepare.spec import PrepareResult, PrepareSpec
from tasks.step import research_step

prepare = research_step(
    name="prepare",
    spec=PrepareSpec,
    result=PrepareResult,
    body="tasks.prepare.body",
    packages=("gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers"),
    check=check,
)

__all__ = ["PrepareResult", "PrepareSpec", "prepare"]
