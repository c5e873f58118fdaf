"""The analyze step: variants against a baseline, as numbers with intervals and as a page."""

from tasks.analyze.spec import AnalyzeResult, AnalyzeSpec, Evaluation, Variant
from tasks.step import research_step

analyze = research_step(
    name="analyze",
    spec=AnalyzeSpec,
    result=AnalyzeResult,
    body="tasks.analyze.body",
    packages=("numpy", "scipy", "matplotlib"),
)

__all__ = ["AnalyzeResult", "AnalyzeSpec", "Evaluation", "Variant", "analyze"]
