"""The compress step: quantize or prune a model by a recipe, and check what came out."""

from tasks.compress.spec import CompressResult, CompressSpec

__all__ = ["CompressResult", "CompressSpec"]
