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


@contextmanager
def laid_out(module: nn.Module, memory_format: torch.memory_format) -> Iterator[None]:
    """Lay the convolutions' weights out, channels last where the fast kernels want it; afterwards as they were."""
    kept = [(weight, weight.data) for weight in module.parameters() if weight.ndim == 4]
    try:
        for weight, data in kept:
            weight.data = data.contiguous(memory_format=memory_format)
        yield
    finally:
        for weight, data in kept:
            weight.data = data
