"""What a classifier answers, as probabilities of its classes."""

from __future__ import annotations

import torch
from torch import Tensor

import featviz as fv

MOVES = (
    *("Alias", "Clone", "Flatten", "Permute", "Reshape", "Select", "Slice", "Squeeze", "ToCopy", "Transpose"),
    *("Unsafe", "Unsqueeze", "View"),
)
"""How the names of steps begin that leave every number as it is."""

LOGITS, PROBABILITIES, LOG_PROBABILITIES = "logits", "probabilities", "log-probabilities"


def predict(network: fv.Network, images: Tensor, head: str = fv.objectives.OUTPUT) -> Tensor:
    """Return the probabilities (images, classes) that a network gives, whether it puts out these or logits.

    Those of a single output are of yes, by a sigmoid; and so is every one of a network that ends in sigmoids.

    Args:
        network: a classifier.
        images: (n, channels, h, w) in [0, 1], of a size that it takes.
        head: which of several networks run combine.

    Raises:
        ModelError: it gives what is no number.
    """
    with torch.no_grad():
        put = network.capture(images, [head]).logits(head).float().cpu()
    if not put.isfinite().all():
        raise fv.ModelError(f"{network.label} answers with what is no number; check its weights, --mean and --std")
    if output_kind(network, head) == PROBABILITIES:
        return put
    return put.softmax(1) if put.shape[1] > 1 else put.sigmoid()


def output_kind(network: fv.Network, layer: str) -> str:
    """Say what a layer puts out: after a softmax or sigmoids, as a module or as a function, they are no logits.

    Args:
        network: asked about noise.
        layer: puts out a vector.
    """
    noise = torch.rand(1, network.channels, *network.size, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():
        put = network.capture(noise.requires_grad_(), [layer]).channels_first(layer)
    step = put.grad_fn
    while step is not None and step.name().lstrip("_").startswith(MOVES):
        step = step.next_functions[0][0]
    last = "" if step is None else step.name()
    if last in ("SigmoidBackward0", "SoftmaxBackward0") or (put.min() >= 0 and _are_shares(put)):
        return PROBABILITIES
    return LOG_PROBABILITIES if last == "LogSoftmaxBackward0" or _are_shares(put.exp()) else LOGITS


def _are_shares(put: Tensor) -> bool:
    return put.shape[1] > 1 and bool((put.sum(1) - 1).abs().max() < 1e-3)
