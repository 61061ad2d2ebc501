"""Drawings that stand in for photographs."""

from __future__ import annotations

import torch
from torch import Tensor


def dead_leaves(n: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw discs of all sizes over one another, which have the statistics of photographs.

    Source: Lee, Mumford and Huang 2001, "Occlusion models for natural images", Int. J. of Computer Vision 41.
    """
    generator = torch.Generator().manual_seed(seed)

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    images = torch.full((n, channels, *size), 0.5)
    for image in images:
        for _ in range(150):
            radius = 0.02 * min(size) * (1 - 0.998 * chance(1)).pow(-0.5)
            down, along = (1.4 * chance(2) - 0.2) * torch.tensor(size)
            light = 0.45 + 0.22 * torch.randn(1, generator=generator)
            color = (light + 0.08 * torch.randn(channels, generator=generator)).clamp(0, 1)
            image[:, (y - down).square() + (x - along).square() < radius.square()] = color[:, None]
    return images
