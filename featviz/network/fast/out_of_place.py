"""Run activation functions out of place where PyTorch would otherwise copy their input for the backward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from featviz.network.fast.trial import Recording
from featviz.network.working_copy import working_copy

COPYING_MODULES = (nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.Mish)
"""Activations whose derivative depends on the input. In place, PyTorch saves a copy of it. ReLU6 is a Hardtanh."""


def can_run_out_of_place(module: nn.Module, images: Tensor) -> bool:
    """Whether the network has such activations in place, and outputs the same where they are not.

    A `forward` may rely on a changed input, if it ignores what the activation returns. An activation may change nothing
    in the trial, such as one that clips large values only, so another function takes its place there.

    Args:
        module: The network.
        images: Any images, normalised as the network expects.
    """
    in_place, out_of_place = working_copy(module), working_copy(module)
    if not _in_place(module):
        return False
    for part in _in_place(in_place):
        part.forward = _halve_in_place  # type: ignore[method-assign]
    for part in _in_place(out_of_place):
        part.forward = _halve  # type: ignore[method-assign]
    return Recording.of(in_place, images).is_repeated_by(out_of_place, images)


def run_out_of_place(module: nn.Module) -> None:
    """Let such activations of a working copy run out of place.

    Args:
        module: The working copy, whose activations are changed.
    """
    for part in _in_place(module):
        part.inplace = False


def _in_place(module: nn.Module) -> list[Any]:
    """Return the activations in place, without those whose class computes something else."""
    return [
        part
        for part in module.modules()
        if any(isinstance(part, kind) and type(part).forward is kind.forward for kind in COPYING_MODULES)
        and part.inplace
    ]


def _halve_in_place(input: Tensor) -> Tensor:  # noqa: A002 - may be given by name
    return input.mul_(0.5)


def _halve(input: Tensor) -> Tensor:  # noqa: A002
    return input * 0.5
