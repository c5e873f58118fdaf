"""What a vLLM server may be told: typed fields for what everybody sets, a mapping for the rest.

    ServerOptions(max_model_len=4096, flags={"enable-chunked-prefill": True, "block-size": 32})

Everything here may change what is measured, so it is part of the spec that holds it. What belongs
to the machinery (host, port, model, key) cannot be set.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from tasks.spec import Frozen

FLAG = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]*$")

OWN_FLAGS = {
    "host": "servers listen on loopback only",
    "port": "a free port is chosen",
    "uds": "servers listen on loopback only",
    "model": "the model is an input of the step",
    "tokenizer": "the tokenizer is the model's",
    "served-model-name": "the caller chooses it",
    "api-key": "a random one is made for each server",
    "config": "flags are written out in the spec",
    "trust-remote-code": "code that a model brings is not run",
    "load-format": "weights are safetensors, never pickles",
    "disable-uvicorn-access-log": "it is always set",
}
OWN_VARIABLES = {
    "VLLM_API_KEY": "a random one is made for each server",
    "VLLM_CACHE_ROOT": "it lies in LABWRIGHT_HOME",
    "CUDA_VISIBLE_DEVICES": "the placement says which GPUs a step gets",
    "HF_HUB_OFFLINE": "servers never download",
    "HF_HOME": "it lies in LABWRIGHT_HOME",
    "PYTHONPATH": "the serve environment is complete",
}


class ServerDtype(StrEnum):
    """Number format of weights and activations; `auto` is the one that the model was saved in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def _spelled_one_way(flags: object) -> object:
    """`--max_num_seqs` and `max-num-seqs` are one flag, and one identity."""
    if not isinstance(flags, dict):
        return flags
    return {str(name).removeprefix("--").replace("_", "-"): value for name, value in flags.items()}


Flags = Annotated[dict[str, bool | int | float | str], BeforeValidator(_spelled_one_way)]


class ServerOptions(Frozen):
    """How a vLLM server is set up."""

    max_model_len: int | None = Field(
        default=None, ge=16, description="Longest sequence in tokens; None as the model's config."
    )
    dtype: ServerDtype = Field(default=ServerDtype.AUTO, description="Number format.")
    tensor_parallel_size: int | None = Field(
        default=None, ge=1, description="GPUs that share one model; None is all that the step gets."
    )
    gpu_memory_utilization: float | None = Field(
        default=None, gt=0, le=1, description="Part of each GPU's memory to use; None as vLLM does."
    )
    kv_cache_space_gib: int = Field(
        default=4, ge=1, description="Memory for the KV cache where vLLM runs on a CPU."
    )
    enforce_eager: bool = Field(
        default=False,
        description="Neither compile nor capture graphs: starts much sooner, serves slower.",
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, description="Sequences in one batch at most; None as vLLM does."
    )
    prefix_caching: bool | None = Field(
        default=None, description="Reuse the KV cache of equal prefixes; None as vLLM does."
    )
    flags: Flags = Field(
        default_factory=dict,
        description="Other flags of `vllm serve`; true is the bare flag, false its `--no-` form.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the server, e.g. VLLM_…"
    )

    @field_validator("flags")
    @classmethod
    def _flags_are_free(cls, flags: dict[str, object]) -> dict[str, object]:
        for name in flags:
            if not FLAG.match(name):
                raise ValueError(f"'{name}' is not the name of a flag")
            if name in OWN_FLAGS:
                raise ValueError(f"'{name}' cannot be set: {OWN_FLAGS[name]}")
            if (field := name.removeprefix("no-").replace("-", "_")) in FIELD_FLAGS:
                raise ValueError(f"'{name}' has a field of its own: {FIELD_FLAGS[field]}")
        return flags

    @field_validator("environment")
    @classmethod
    def _variables_are_free(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not VARIABLE.match(name):
                raise ValueError(f"'{name}' is not the name of an environment variable")
            if name in OWN_VARIABLES:
                raise ValueError(f"'{name}' cannot be set: {OWN_VARIABLES[name]}")
            if name == "VLLM_CPU_KVCACHE_SPACE":
                raise ValueError(f"'{name}' has a field of its own: kv_cache_space_gib")
        return environment

    def arguments(self, num_gpus: int) -> list[str]:
        """The options as arguments of `vllm serve`, each `--name=value` one argument."""
        typed = {
            "dtype": self.dtype.value,
            "max-model-len": self.max_model_len,
            "tensor-parallel-size": self.tensor_parallel_size or max(1, num_gpus),
            "gpu-memory-utilization": self.gpu_memory_utilization,
            "max-num-seqs": self.max_num_seqs,
            "enable-prefix-caching": self.prefix_caching,
            "enforce-eager": self.enforce_eager or None,
        }
        given = {name: value for name, value in typed.items() if value is not None}
        return [_argument(name, value) for name, value in (given | self.flags).items()]


FIELD_FLAGS = {
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "tensor_parallel_size": "tensor_parallel_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "max_num_seqs": "max_num_seqs",
    "enable_prefix_caching": "prefix_caching",
    "enforce_eager": "enforce_eager",
}


def _argument(name: str, value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
