"""Changes to a module that undo themselves, also after an error or Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put the module in eval mode with nothing to train; afterwards every flag and every buffer is as it was.

    Flags are set one by one: layers of one's own may do more than that when they are told to train, or not to.
    """
    training = {part: part.training for part in module.modules()}
    buffers = {part: dict(part._buffers) for part in training if part._buffers}
    values = {held: held.clone() for own in buffers.values() for held in own.values() if held is not None}
    versions = {held: version(held) for held in values}
    trainable = [weight for weight in module.parameters() if weight.requires_grad]
    try:
        for part in training:
            part.training = False
        for weight in trainable:
            weight.requires_grad_(False)
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
        for part, own in buffers.items():
            part._buffers.update(own)
        with torch.no_grad():
            for held, value in values.items():
                if versions[held] != version(held):
                    held.copy_(value)
        for weight in trainable:
            weight.requires_grad_(True)


def version(tensor: torch.Tensor) -> int:
    """Return what changes whenever the tensor is written to, but for writes to its `.data`."""
    return -1 if tensor.is_inference() else tensor._version


CASTABLE = (nn.modules.conv._ConvNd, nn.Linear)
"""Modules whose weights are kept in the lower precision itself; what else needs it is cast as it runs."""


@contextmanager
def laid_out(
    module: nn.Module, memory_format: torch.memory_format, precision: torch.dtype = torch.float32
) -> Iterator[None]:
    """Lay the convolutions' weights out as the fast kernels want it, in a lower precision if asked; then undo it."""
    cast = {
        weight
        for part in module.modules()
        if isinstance(part, CASTABLE)
        for weight in part.parameters(recurse=False)
        if weight.dtype == torch.float32
    }
    kept = [(weight, weight.data) for weight in module.parameters() if weight.ndim == 4 or weight in cast]
    try:
        for weight, data in kept:
            layout = memory_format if weight.ndim == 4 else torch.preserve_format
            weight.data = data.to(precision if weight in cast else data.dtype, memory_format=layout)
        yield
    finally:
        for weight, data in kept:
            weight.data = data
