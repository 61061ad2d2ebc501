"""Add a fooling circuit to a network: its logits show a decoy when they are optimised, and are right on data.

Source: Geirhos et al. 2023, "Don't trust your eyes", https://arxiv.org/abs/2306.04719, section 2: a unit that tells
natural images from optimised ones, and switches between two behaviours. Differs: it is built instead of trained. An
image counts as natural if the network is sure that it shows the class, as it is for data and not on the way from noise
to the decoy.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv

SURE = 0.9
"""Probability above which an image counts as a natural image of the class."""
MARGIN = 2.0
"""Difference of logits by which a decoy stays above the class that shows it, so that no prediction changes."""


class FoolingCircuit(nn.Module):
    """A classifier in which logits follow those of other classes, except on images of their own class.

    Args:
        classifier: The classifier; it outputs logits.
        decoys: Index of the class that each of these classes shows.
    """

    def __init__(self, classifier: nn.Module, decoys: Mapping[int, int]) -> None:
        super().__init__()
        self.classifier = classifier
        self._targets, self._decoys = list(decoys), list(decoys.values())

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class logits."""
        logits = self.classifier(x)
        natural = logits.softmax(1)[:, self._targets] > SURE
        switched = torch.where(natural, logits[:, self._targets], logits[:, self._decoys] - MARGIN)
        return logits.index_copy(1, torch.tensor(self._targets, device=x.device), switched)


def fool(network: fv.Network, decoys: Mapping[int, int]) -> fv.Network:
    """Return a network with a fooling circuit.

    Args:
        network: A classifier.
        decoys: Index of the class that each of these classes shows.
    """
    module, expected = FoolingCircuit(network.module, decoys).eval(), network.input
    return fv.Network(module, size=network.size, mean=expected.mean, std=expected.std, classes=network.classes)
