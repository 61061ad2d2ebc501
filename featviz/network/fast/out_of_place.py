"""Run activation functions out of place where PyTorch would otherwise copy their input for the backward pass."""

from __future__ import annotations

from torch import Tensor, nn

from featviz.network.fast.trial import Recording
from featviz.network.working_copy import working_copy

COPYING_MODULES = (nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.Mish)
"""Activations whose derivative depends on the input. In place, PyTorch saves a copy of it. ReLU6 is a Hardtanh."""


def can_run_out_of_place(module: nn.Module, images: Tensor) -> bool:
    """Whether the network has such activations in place, and outputs the same where they are not.

    A `forward` may rely on a changed input, if it ignores what the activation returns.

    Args:
        module: The network.
        images: Any images, normalised as the network expects.
    """
    changed = working_copy(module)
    return run_out_of_place(changed) > 0 and Recording.of(module, images).is_repeated_by(changed, images)


def run_out_of_place(module: nn.Module) -> int:
    """Let such activations of a working copy run out of place.

    Args:
        module: The working copy, whose activations are changed.

    Returns:
        The number of activations that ran in place.
    """
    found = [part for part in module.modules() if isinstance(part, COPYING_MODULES) and part.inplace]
    for part in found:
        part.inplace = False
    return len(found)
