"""Which activations a network has that its layers do not show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import featviz as fv
from featviz.apps.doctor.findings import Finding

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "gelu", "silu", "hardswish", "elu", "selu", "mish", "hardtanh")


def activations(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    """Count the activations that overwrite their input, and those that no layer's name reaches."""
    in_place = sum(1 for part in network.module.modules() if getattr(part, "inplace", False) is True)
    if in_place:
        yield Finding("activations", f"{in_place} overwrite their input; layers are captured before they do")
    with torch.no_grad(), _Counting(network.module) as counting:
        network.capture(torch.full((1, network.channels, *network.size), 0.5), list(network.table))
    if counting.calls:
        names = " and ".join(sorted(counting.calls))
        yield Finding("activations", f"it calls {names} as a function, which no layer names; address the block around")


class _Counting(TorchFunctionMode):
    """Notes which activations are called as functions, not by a module of their own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.calls: set[str] = set()
        self._inside = 0
        kinds = tuple(
            kind
            for kind in vars(nn).values()
            if isinstance(kind, type) and kind.__name__.lower() in {name.replace("_", "") for name in ACTIVATIONS}
        )
        self._handles = [
            handle
            for part in module.modules()
            if isinstance(part, kinds)
            for handle in (part.register_forward_pre_hook(self._enter), part.register_forward_hook(self._leave))
        ]

    def _enter(self, *_: object) -> None:
        self._inside += 1

    def _leave(self, *_: object) -> None:
        self._inside -= 1

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        if name in ACTIVATIONS and not self._inside:
            self.calls.add(name)
        return func(*args, **(kwargs or {}))
