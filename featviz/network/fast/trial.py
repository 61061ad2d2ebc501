"""Compare the outputs of all modules of a network before and after a change of how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from featviz.network.hooks import hookable_modules
from featviz.network.trees import first_tensor
from featviz.network.working_copy import uncompiled, working_copy
from featviz.random import Chance

TOLERANCE = 1e-3
"""Largest deviation of an output, relative to the layer's largest value. Rounding causes a hundredth of it."""

Hook = Callable[[str, tuple[object, ...], object], None]
"""Called with the name, inputs and output of every module that runs."""


@dataclass
class Recording:
    """One pass of a network.

    Tensors are compared by identity: a normalisation reads a convolution if its input *is* the convolution's output.
    Values are compared on copies, because later modules may overwrite an output in place.
    """

    calls: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    copies: list[Tensor | None] = field(default_factory=list)
    """A copy of the output of each call, in order; `None` for an output without tensors."""

    @classmethod
    def of(cls, module: nn.Module, images: Tensor) -> Recording:
        """Run a working copy of a network.

        Args:
            module: The network.
            images: Any images, normalised as the network expects.
        """
        recorded = cls()
        _run(working_copy(module), images, recorded.add)
        return recorded

    def add(self, name: str, inputs: tuple[object, ...], output: object) -> None:
        """Record one call of a module."""
        self.calls.append(name)
        given, tensor = first_tensor(inputs), first_tensor(output)
        self.copies.append(None if tensor is None else tensor.clone())
        if tensor is not None and given is not None:
            self.inputs[name], self.outputs[name] = given, tensor

    def is_repeated_by(self, changed: nn.Module, images: Tensor, except_for: Set[str] = frozenset()) -> bool:
        """Whether all modules of a changed working copy have the same outputs.

        Args:
            changed: The working copy.
            images: The same images.
            except_for: Names of modules whose output may differ.
        """
        expected: Iterator[Tensor | None] = iter(self.copies)
        same = True

        def compare(name: str, _: tuple[object, ...], output: object) -> None:
            nonlocal same
            before, tensor = next(expected, None), first_tensor(output)
            if before is not None and tensor is not None and name not in except_for:
                same &= _close(before, tensor)

        _run(changed, images, compare)
        return same


def _close(before: Tensor, tensor: Tensor) -> bool:
    if before.shape != tensor.shape or before.numel() == 0:
        return before.shape == tensor.shape
    if not (before.is_floating_point() or before.is_complex()):
        return torch.equal(before, tensor)
    return bool((tensor - before).abs().max() <= TOLERANCE * (before.abs().max() + TOLERANCE))


def _run(module: nn.Module, images: Tensor, call: Hook) -> None:
    """Run a working copy, calling back after every module."""
    for name, part in hookable_modules(module):
        part.register_forward_hook(lambda _, inputs, output, name=name: call(name, inputs, output))
    with Chance(images.device)(), torch.no_grad(), uncompiled(), without_tf32(images.device):
        module(images)


def without_tf32(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without TF32 convolutions, which differ by more than rounding.

    Args:
        device: Where the network runs.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
