"""The linear layers of a model that is loaded, where the class of every module is known.

    layout_of(model, stored=read_layout(folder)).matching(["Linear"])

Needs torch, so that only bodies import it; `layout.py` reads the same from headers.
"""

from __future__ import annotations

from torch import nn

from tasks.compress.layout import Linear, ModelLayout


def layout_of(model: nn.Module, stored: ModelLayout) -> ModelLayout:
    """The layout with the modules that are there; sizes and positions are those of the headers."""
    linears = tuple(
        Linear(name, module.out_features, module.in_features, module.weight.element_size())
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    )
    return ModelLayout(
        linears=linears,
        modules=frozenset(name for name, _ in model.named_modules() if name),
        size_bytes=stored.size_bytes,
        max_positions=stored.max_positions,
        has_tied_head=stored.has_tied_head,
    )
