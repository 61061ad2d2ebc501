"""Changes to a module that undo themselves, also after an error or Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put the module in eval mode with nothing to train; afterwards every flag is as it was."""
    training = {part: part.training for part in module.modules()}
    trainable = [weight for weight in module.parameters() if weight.requires_grad]
    try:
        module.eval()
        for weight in trainable:
            weight.requires_grad_(False)
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
        for weight in trainable:
            weight.requires_grad_(True)


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
