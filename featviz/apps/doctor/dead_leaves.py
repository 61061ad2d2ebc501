"""Synthetic images with the statistics of photographs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size

DISCS = 150
"""Discs per image."""


def dead_leaves(n: int, channels: int, size: Size, seed: int = 0) -> Float[Tensor, "n channels h w"]:
    """Draw images of overlapping discs, whose radii follow a power law. They have the spectrum of photographs.

    Args:
        n: Number of images.
        channels: Number of channels; their values differ little within a disc, as in photographs.
        size: Height and width in px.
        seed: Seed of the random numbers.

    Returns:
        The images, in [0, 1].

    Source: Lee, Mumford and Huang 2001, "Occlusion models for natural images", Int. J. of Computer Vision 41.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(count: int) -> Tensor:
        return torch.rand(count, generator=generator)

    y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    images = torch.full((n, channels, *size), 0.5)
    for image in images:
        for _ in range(DISCS):
            # Inverse transform sampling of a density that falls as radius^-3, from 2 % of the shorter side upwards.
            radius = 0.02 * min(size) * (1 - 0.998 * uniform(1)).pow(-0.5)
            row, column = (1.4 * uniform(2) - 0.2) * torch.tensor(size)  # centers may lie outside of the image
            grey = 0.45 + 0.22 * torch.randn(1, generator=generator)
            color = (grey + 0.08 * torch.randn(channels, generator=generator)).clamp(0, 1)
            image[:, (y - row).square() + (x - column).square() < radius.square()] = color[:, None]
    return images
