"""How fast training runs: tokens per second, model FLOP/s, and their share of the device's peak.

These go into the run's metrics, never into its result: they differ from run to run.

    flops_per_token(num_parameters=1_300_000, num_layers=4, hidden_size=128, sequence_length=256)
"""

from __future__ import annotations

import resource
import sys

import torch

# Dense bfloat16 tensor-core FLOP/s, from NVIDIA's data sheets; the first name that fits counts.
PEAK_FLOPS_PER_S = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


def flops_per_token(
    num_parameters: int, num_layers: int, hidden_size: int, sequence_length: int
) -> int:
    """Forward and backward: 6 N + 12 L H T (Chowdhery et al. 2022, PaLM, appendix B)."""
    return 6 * num_parameters + 12 * num_layers * hidden_size * sequence_length


def peak_flops_per_s(device: torch.device) -> float | None:
    """What the device could do at most; None where that is not known (every CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS_PER_S.items() if part in name), None)


def peak_memory_bytes(device: torch.device) -> int:
    """Highest so far: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def speed(
    num_tokens: int, duration_s: float, flops_each: int, device: torch.device
) -> dict[str, float]:
    """tokens_per_s, model_tflops_per_s, peak_memory_gib, and mfu where the peak is known."""
    tokens_per_s = num_tokens / max(duration_s, 1e-9)
    figures = {
        "tokens_per_s": round(tokens_per_s, 1),
        "model_tflops_per_s": round(tokens_per_s * flops_each / 1e12, 4),
        "peak_memory_gib": round(peak_memory_bytes(device) / 2**30, 3),
    }
    peak = peak_flops_per_s(device)
    if peak is not None:
        figures["mfu"] = round(tokens_per_s * flops_each / peak, 4)
    return figures
