"""Similarity of the paths that images take through the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.ranks import ranks
from featviz.interfaces import ObjectiveLike
from featviz.network import CODES

PATH_LAYERS = 8
"""Number of layers at which paths are compared, spread evenly over the layer table up to the unit."""
MIN_CONTRAST = 0.05
"""Smallest difference between the correlations of photographs with and without the unit for a layer to be used.

Early layers do not separate them; division by a difference near 0 would amplify noise.
"""
MIN_STD = 1e-6
"""Smallest standard deviation that channels are divided by, as a fraction of the layer's largest activation."""

LayerMeans = list[Tensor]
"""The path of images: mean activation of each channel, (n, channels), at each of the compared layers."""


def path_layers(network: fv.Network, unit: ObjectiveLike) -> tuple[str, ...]:
    """Return the layers at which paths to a unit are compared.

    Class logits are left out: they are the result of a path, which a manipulated network keeps.

    Args:
        network: The network.
        unit: The unit.

    Returns:
        Names of up to `PATH_LAYERS` layers in the order of the layer table; none for a unit of no layer.
    """
    names = list(network.table)
    layers = [network.table[layer].base or layer for layer in unit.layers if layer in network.table]
    if not layers:
        return ()
    last = max(names.index(layer.removesuffix(CODES)) for layer in layers)
    is_vector_of_classes = {name for name in names if name in network.heads or _puts_out_classes(network, name)}
    found = [name for name in names[: last + 1] if name not in is_vector_of_classes]
    count = min(PATH_LAYERS, len(found))
    return tuple(found[round((i + 1) * len(found) / count) - 1] for i in range(count))


def paths(network: fv.Network, images: Float[Tensor, "n c h w"], layers: Sequence[str]) -> LayerMeans:
    """Return the mean activation over positions of each channel at each layer.

    Args:
        network: The network.
        images: In [0, 1], of a size that the network accepts.
        layers: Names of the layers.
    """
    with torch.no_grad():
        acts = network.capture(images, layers)
        return [acts.channels_first(layer).unsqueeze(-1).flatten(2).mean(2).float().cpu() for layer in layers]


def spearman(one: Float[Tensor, "n channels"], other: Float[Tensor, "m channels"]) -> Float[Tensor, "n m"]:
    """Return the rank correlation of each row of one table with each of another; ties get their mean rank.

    Args:
        one: Any numbers.
        other: As many columns.

    Returns:
        Correlations in [-1, 1]; 0 for a constant row.
    """
    first, second = (_unit_ranks(values) for values in (one, other))
    return first @ second.T


@dataclass(frozen=True, eq=False)
class PathScale:
    """Paths of photographs with which images are compared, and the scale that follows from them.

    Channels are standardised over all photographs first, since channels that are always active would make all paths
    alike.

    Args:
        own: Layer means of the photographs that show the unit, two or more.
        others: Layer means of other photographs.

    Source: Geirhos et al. 2023, "Don't trust your eyes", https://arxiv.org/abs/2306.04719, section 4.
    Differs: activations are averaged over positions, because objects have no fixed place, and standardised.
    """

    own: LayerMeans
    others: LayerMeans

    def similarities(self, images: LayerMeans) -> list[float]:
        """Return how similar the paths of images are to those of the photographs of the unit, by layer.

        Args:
            images: Layer means of one or more images.

        Returns:
            1 is as similar as these photographs are to each other, 0 as similar as they are to other photographs; NaN
            where a layer does not separate the two groups.
        """
        return [
            gain / contrast if contrast > MIN_CONTRAST else float("nan") for gain, contrast in self._gains(images, None)
        ]

    def late_similarity(self, images: LayerMeans, reference: LayerMeans | None = None) -> float:
        """Return the mean similarity over the later half of the layers, each weighted by its contrast.

        Args:
            images: Layer means of one or more images.
            reference: Layer means with which they are compared; `None` for the photographs of the unit.

        Returns:
            On the scale of `similarities`; NaN where the layers do not separate the photographs.
        """
        late = self._gains(images, reference)[len(self.own) // 2 :]
        gain, contrast = (sum(each[i] for each in late) for i in (0, 1))
        return gain / contrast if contrast > MIN_CONTRAST * len(late) else float("nan")

    def late_contrast(self) -> float:
        """Return how much more alike photographs of the unit are to each other than to others, as correlations.

        The mean over the later half of the layers.
        """
        late = self._gains(self.own, None)[len(self.own) // 2 :]
        return sum(contrast for _, contrast in late) / len(late)

    def _gains(self, images: LayerMeans, reference: LayerMeans | None) -> list[tuple[float, float]]:
        """Return, by layer, how much the correlations of images and of own with own exceed that of others."""
        found = []
        for layer, (own, others) in enumerate(zip(self.own, self.others, strict=True)):
            photographs = torch.cat([own, others])
            mean, std = photographs.mean(0), photographs.std(0)
            std = std.clamp(min=MIN_STD * photographs.abs().max().item())
            compared = own if reference is None else reference[layer]
            mine, theirs, image, with_unit = ((each - mean) / std for each in (own, others, images[layer], compared))
            pairs = spearman(mine, mine)
            same = (pairs.sum() - pairs.diagonal().sum()) / (pairs.numel() - len(pairs))
            apart = spearman(mine, theirs).mean()
            found.append(((spearman(image, with_unit).mean() - apart).item(), (same - apart).item()))
        return found


def _puts_out_classes(network: fv.Network, name: str) -> bool:
    """Whether a layer is the last linear layer: a vector with one channel per class."""
    row = network.table[name]
    return row.layout.kind == "vector" and any(row.channels == network.table[head].channels for head in network.heads)


def _unit_ranks(values: Float[Tensor, "n channels"]) -> Float[Tensor, "n channels"]:
    """Return the ranks of each row, centred and of unit norm."""
    ranked = ranks(values.T).T.double()
    centred = ranked - ranked.mean(1, keepdim=True)
    return (centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-12)).float()
