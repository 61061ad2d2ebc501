"""Correlations of units, mutual nearest neighbours and linear CKA, from accumulated covariances."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.apps.diff.moments import Moments

TIE = 1e-6
"""Correlations that differ by no more count as equal; then the unit at the same address is the nearest."""
CONSTANT = 1e-12
"""A unit whose variance is below this share of the largest one of its network is constant."""


def varying(moments: Moments, table: int) -> Tensor:
    """Return which units vary over the images.

    Args:
        moments: The covariances.
        table: 0 for the first network, 1 for the second.

    Returns:
        Boolean, (units,).
    """
    variance = moments.variance(table)
    return variance > CONSTANT * variance.max()


def correlations(moments: Moments) -> Float[Tensor, "p q"]:
    """Return Pearson's correlation of each unit of the first network with each of the second.

    It is the mean product of z-scored activations. A unit that does not vary has correlation 0 with all others.

    Args:
        moments: The covariances of their activations.

    Returns:
        The correlations, in [-1, 1].
    """
    found = moments.cross
    for table in (0, 1):
        scale = moments.variance(table).sqrt()
        inverse = torch.where(varying(moments, table), 1 / scale.clamp(min=1e-300), 0.0)
        found = found * (inverse[:, None] if table == 0 else inverse)
    return found.clamp(-1, 1)


def linear_cka(moments: Moments) -> Float[Tensor, "k m"]:
    """Return the linear centered kernel alignment of each layer of the first network with each of the second.

    It is exact for the rows that were added, by covariances of the features instead of Gram matrices of the rows:
    `|cov(x, y)|^2 / (|cov(x, x)| |cov(y, y)|)` in Frobenius norms.

    Args:
        moments: The covariances; a block is a layer.

    Returns:
        In [0, 1]; 1 for layers that differ by a rotation, an isotropic scaling and a shift. 0 for a constant layer.

    Source: Kornblith et al. 2019, https://arxiv.org/abs/1905.00414, section 3.
    Differs: a row is a position of an image, not an image, so that wide maps need no larger covariances.
    """
    own = [torch.stack([block.norm() for block in moments.own(table)]) for table in (0, 1)]
    rows = moments.cross.split(moments.blocks[0], 0)
    shared = torch.stack([torch.stack([b.square().sum() for b in row.split(moments.blocks[1], 1)]) for row in rows])
    return (shared / torch.outer(*own).clamp(min=1e-300)).clamp(0, 1)


def nearest(
    correlation: Float[Tensor, "p q"], same: Int[Tensor, " p"]
) -> tuple[Int[Tensor, " p"], Float[Tensor, " p"]]:
    """Return the most correlated unit of the other network for each unit.

    Args:
        correlation: Of each unit with each of the other network.
        same: Index of the unit at the same address in the other network; -1 where there is none. It is preferred to
            others that are as correlated.

    Returns:
        Its index, and the correlation.
    """
    highest, index = correlation.max(1)
    at_same = correlation.gather(1, same.clamp(min=0)[:, None])[:, 0]
    keeps = (same >= 0) & (at_same >= highest - TIE)
    return torch.where(keeps, same, index), torch.where(keeps, at_same, highest)


def mutual(forward: Int[Tensor, " p"], backward: Int[Tensor, " q"]) -> Tensor:
    """Return for which units of the first network its nearest neighbour has it as its nearest neighbour.

    Args:
        forward: Nearest unit of the second network for each of the first.
        backward: Nearest unit of the first network for each of the second.

    Returns:
        Boolean, (p,).

    Source: Dravid et al. 2023, https://arxiv.org/abs/2306.09346, section 3.2.
    Differs: one nearest neighbour; the paper takes the K nearest of several networks.
    """
    return backward[forward] == torch.arange(len(forward))
