"""Modules for the tests of working copies, and what those count and compare."""

from __future__ import annotations

import torch
import toys
from torch import nn

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def module_of(kind=toys.Plain):
    """Return a module in training mode with trainable weights, as a user has it who trains."""
    return toys.network(kind()).module.train()


class Wrapper(nn.Module):
    """Runs a network of its own; tests put state and other code around it."""

    def __init__(self):
        super().__init__()
        self.net = toys.Plain()

    def forward(self, x):
        return self.net(x)


def ran(module):
    """Count the calls of a convolution by a hook."""
    calls = []
    module.conv1.register_forward_hook(lambda *_: calls.append(1))
    return calls


def tensors_of(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
