"""Contributions of inputs to the response of a unit to its exemplars: weights times activations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.expand import IMAGE, check_order, run_linearised
from featviz.apps.shared.activations.finite import check_finite

GREY_BASELINE = 0.5
"""Value of a colour of the image that contributes nothing."""


def contributions(
    network: fv.Network,
    layer: str,
    channel: int,
    source: str,
    images: Float[Tensor, "n c h w"],
    baseline: Float[Tensor, " channel"] | None = None,
) -> Float[Tensor, " channel"]:
    """Return how much each input contributes to the response of a unit to images.

    The contribution is the sum over positions of the expanded weights times the activations, at the position where the
    unit is largest in each image, in the linearised network: the part of the response that comes from the input. It
    takes the sign of the activation into account: a negative activation with a negative weight excites. An input with a
    large weight that is inactive where the unit responds contributes nothing.

    Args:
        network: A network that reads images.
        layer: Layer of the unit; empty for the class logits.
        channel: Index of the unit.
        source: The earlier layer, or `"image"`.
        images: Exemplars of the unit, in [0, 1].
        baseline: Activation of each channel that contributes nothing, as when the channel is ablated to it; `None` for
            0, or grey for an image.

    Returns:
        The mean over the images, on the CPU.

    Raises:
        ModelError: The response to an image is NaN or infinite.
        AddressError: There is no such layer or channel, the source does not come before the layer, or no weights lie
            between them.
    """
    check_order(network, layer, source)
    with run_linearised(network, layer, source, images) as (acts, leaf, _):
        acts.check_channel(layer, channel)
        values = check_finite(acts.channel(layer, channel), network, layer).unsqueeze(-1).flatten(1)
        if not values.requires_grad:
            return torch.zeros(network.channels if source == IMAGE else network.layer(source).channels)
        (weights,) = torch.autograd.grad(values.amax(1).sum(), leaf)
        is_image = source == IMAGE and IMAGE not in network.table
        dim = 1 if is_image else acts.layouts[source].channel
        active, weights = (
            each.detach().movedim(dim, 1).flatten(2) for each in (leaf.unsqueeze(-1), weights.unsqueeze(-1))
        )
    if baseline is not None:
        active = active - baseline.to(active)[:, None]
    elif is_image:
        active = active - GREY_BASELINE
    return (weights * active).sum(2).mean(0).cpu()
