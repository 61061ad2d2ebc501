"""Class probabilities of a classifier, whether it puts out logits or probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.probe import noise
from featviz.network import OUTPUT

RESHAPES = (
    *("Alias", "Clone", "Flatten", "Permute", "Reshape", "Select", "Slice", "Squeeze", "ToCopy", "Transpose"),
    *("Unsafe", "Unsqueeze", "View"),
)
"""Prefixes of the autograd nodes that move or copy numbers without changing them."""

LOGITS, PROBABILITIES, LOG_PROBABILITIES = "logits", "probabilities", "log-probabilities"
"""The kinds of output that `output_kind` tells apart."""

SUM_TOLERANCE = 1e-3
"""Largest deviation from 1 of a sum of probabilities."""


def predict(network: fv.Network, images: Float[Tensor, "n c h w"], head: str = OUTPUT) -> Float[Tensor, "n classes"]:
    """Return the class probabilities of images.

    Logits become probabilities by a softmax, or by a sigmoid where there is one output. Probabilities stay as they
    are, also those of a network that ends in sigmoids and whose classes do not exclude each other.

    Args:
        network: A classifier.
        images: In [0, 1], of a size that the network accepts.
        head: Layer that puts out the logits, for combined networks; empty for a single network.

    Returns:
        Probabilities in [0, 1], on the CPU.

    Raises:
        ModelError: The output is not finite.
    """
    with torch.no_grad():
        output = network.capture(images, [head]).logits(head).float().cpu()
    if not output.isfinite().all():
        raise fv.ModelError(f"the output of {network.label} is not finite; check its weights, mean and std")
    if output_kind(network, head) == PROBABILITIES:
        return output
    return output.softmax(1) if output.shape[1] > 1 else output.sigmoid()


def output_kind(network: fv.Network, layer: str) -> str:
    """Return whether a layer puts out logits, probabilities or log-probabilities.

    The last step of the autograd graph tells, so a softmax or sigmoid is found as a module and as a function. Where
    the last step is another, non-negative numbers that sum to 1 are taken for probabilities.

    Args:
        network: The network; it is run once on noise.
        layer: A layer that puts out one vector per image; empty for the output.

    Returns:
        `LOGITS`, `PROBABILITIES` or `LOG_PROBABILITIES`.
    """
    with torch.enable_grad():
        output = network.capture(noise(network).requires_grad_(), [layer]).channels_first(layer)
    node = output.grad_fn
    while node is not None and node.name().lstrip("_").startswith(RESHAPES):
        node = node.next_functions[0][0]
    last = "" if node is None else node.name()
    if last in ("SigmoidBackward0", "SoftmaxBackward0") or (output.min() >= 0 and _sums_to_one(output)):
        return PROBABILITIES
    return LOG_PROBABILITIES if last == "LogSoftmaxBackward0" or _sums_to_one(output.exp()) else LOGITS


def _sums_to_one(output: Float[Tensor, "n classes"]) -> bool:
    """Return whether the numbers of each image sum to 1; a single number says nothing."""
    return output.shape[1] > 1 and bool((output.sum(1) - 1).abs().max() < SUM_TOLERANCE)
