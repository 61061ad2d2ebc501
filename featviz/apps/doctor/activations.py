"""Find activation functions whose outputs no layer name addresses, and in-place ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.doctor.findings import Finding
from featviz.apps.shared.arguments.probe import grey

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "gelu", "silu", "hardswish", "elu", "selu", "mish", "hardtanh")
"""Names of the activation functions in `torch.nn.functional`."""


def check_activations(network: fv.Network, _images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report in-place activations, and activations that are called as functions."""
    in_place = sum(1 for part in network.module.modules() if getattr(part, "inplace", False) is True)
    if in_place:
        text = f"{in_place} work in place; the outputs of layers are captured before they are overwritten"
        yield Finding("activations", text)
    opened = network.session(network.table)
    with torch.no_grad(), opened as forward, _FunctionalActivations(forward.module) as functional:
        forward(grey(network))
    if functional.calls:
        names = " and ".join(sorted(functional.calls))
        text = f"{names} called as a function, so no layer is named after it; address the enclosing block"
        yield Finding("activations", text)


class _FunctionalActivations(TorchFunctionMode):
    """Records which activations are called as functions.

    Modules such as `nn.ReLU` call the same functions, so hooks count how deep inside of such modules a call is.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.calls: set[str] = set()
        self._depth = 0
        modules = tuple(
            kind
            for kind in vars(nn).values()
            if isinstance(kind, type) and kind.__name__.lower() in {name.replace("_", "") for name in ACTIVATIONS}
        )
        for part in module.modules():
            if isinstance(part, modules):
                part.register_forward_pre_hook(self._enter)
                part.register_forward_hook(self._leave)

    def _enter(self, *_: object) -> None:
        self._depth += 1

    def _leave(self, *_: object) -> None:
        self._depth -= 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")  # `relu_` is `relu` in place
        if name in ACTIVATIONS and not self._depth:
            self.calls.add(name)
        return func(*args, **(kwargs or {}))
