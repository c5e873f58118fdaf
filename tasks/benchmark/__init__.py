"""Benchmark: latency and throughput of a model served by vLLM, under loads made by guidellm."""

from tasks.benchmark.check import check
from tasks.benchmark.spec import BenchmarkResult, BenchmarkSpec
from tasks.step import research_step

benchmark = research_step(
    name="benchmark",
    spec=BenchmarkSpec,
    result=BenchmarkResult,
    body="tasks.benchmark.body",
    packages=("guidellm", "transformers"),
    serve_packages=("vllm", "torch"),
    check=check,
    uses_gpu=True,
    measures=True,
)

__all__ = ["BenchmarkResult", "BenchmarkSpec", "benchmark"]
