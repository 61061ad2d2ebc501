"""What a classifier answers, as probabilities of its classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import featviz as fv


def answers(network: fv.Network, images: Tensor, head: str = fv.objectives.OUTPUT) -> Tensor:
    """Return the probabilities (images, classes) that a network gives, whether or not it ends in a softmax of its own.

    Those of a single output are of yes, by a sigmoid; and so is every one of a network that ends in sigmoids.

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
    if are_probabilities(network, put):
        return put
    return put.softmax(1) if put.shape[1] > 1 else put.sigmoid()


def are_probabilities(network: fv.Network, put: Tensor) -> bool:
    """Say whether what a network puts out are probabilities: of one class or another, or of each apart."""
    if put.min() < 0 or put.max() > 1 + 1e-3:
        return False
    modules = dict(network.module.named_modules())
    apart = any(
        isinstance(modules.get(name), nn.Sigmoid) and layer.layout.kind == "vector" and layer.channels == put.shape[1]
        for name, layer in network.table.items()
    )
    return apart or bool((put.sum(1) - 1).abs().max() < 1e-3)
