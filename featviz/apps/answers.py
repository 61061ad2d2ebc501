"""What a classifier answers, as shares of its classes."""

from __future__ import annotations

import torch
from torch import Tensor

import featviz as fv


def answers(network: fv.Network, images: Tensor, head: str = fv.objectives.OUTPUT) -> Tensor:
    """Return the probabilities (images, classes) that a network gives, whether or not it ends in a softmax of its own.

    Args:
        network: a classifier.
        images: (n, channels, h, w) in [0, 1], of a size that it takes.
        head: which of several networks run together.

    Raises:
        ModelError: it gives what is no number.
    """
    with torch.no_grad():
        put = network.capture(images, [head]).logits(head).float().cpu()
    if not put.isfinite().all():
        raise fv.ModelError(f"{network.label} answers with what is no number; check its weights, --mean and --std")
    return put if are_shares(put) else put.softmax(1)


def are_shares(put: Tensor) -> bool:
    """Say whether what a network puts out are probabilities."""
    return bool(put.min() >= 0 and (put.sum(1) - 1).abs().max() < 1e-3)
