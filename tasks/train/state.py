"""Everything that a step leaves behind for the next, as named tensors and JSON.

Weights, both moments of every parameter and its step count, and the states of the random number
generators. Learning rate and order of the data are functions of the step and need no saving.

    tensors = collect(model, optimizer, device)
    restore(tensors, model, optimizer, device)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tasks.train.model import weights


def _parameter_names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the optimizer's parameters in its own order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def collect(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, by name: weights/…, optimizer/<what>/<parameter>, random/…"""
    tensors = {f"weights/{name}": tensor for name, tensor in weights(model).items()}
    names = _parameter_names(model, optimizer)
    for index, values in optimizer.state_dict()["state"].items():
        for what, tensor in values.items():
            tensors[f"optimizer/{what}/{names[index]}"] = tensor
    tensors["random/cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(
    tensors: Mapping[str, torch.Tensor],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Put back what `collect` took; ValueError where it belongs to another model."""
    current = weights(model)
    saved = {n.removeprefix("weights/"): t for n, t in tensors.items() if n.startswith("weights/")}
    if saved.keys() != current.keys():
        raise ValueError("the checkpoint belongs to another model")
    with torch.no_grad():
        for name, tensor in saved.items():
            current[name].copy_(tensor)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    indices = {name: index for index, name in enumerate(_parameter_names(model, optimizer))}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, what, parameter = name.split("/", 2)
            moments.setdefault(indices[parameter], {})[what] = tensor
    optimizer.load_state_dict(
        {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
