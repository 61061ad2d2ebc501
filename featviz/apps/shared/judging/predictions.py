"""Class probabilities of a classifier, whether it outputs logits or probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.network import OUTPUT


def predict(network: fv.Network, images: Float[Tensor, "n c h w"], head: str = OUTPUT) -> Float[Tensor, "n classes"]:
    """Return the class probabilities of images.

    Args:
        network: A classifier.
        images: In [0, 1], of a size that the network accepts.
        head: Layer that outputs the logits, for combined networks; empty for a single network.

    Returns:
        Probabilities in [0, 1], on the CPU.

    Raises:
        AddressError: The network outputs no class logits, or its outputs have no probabilities.
        ModelError: The output is not finite.
    """
    with torch.no_grad():
        acts = network.capture(images, [head])
        output = acts.logits(head).float().cpu()
        if not output.isfinite().all():
            raise fv.ModelError(f"the output of {network.label} is not finite; check its weights, mean and std")
        return acts.probabilities(head).float().cpu()
