"""Canvases parameterized at several resolutions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.interfaces import Leaves, ParamTraits, Size
from featviz.io import linear_mode
from featviz.random import Generators

MAX_LEVELS = 32
"""Largest number of levels; each has half the sides of the one before."""


@dataclass(frozen=True)
class Pyramid:
    """A Laplacian pyramid: the sum of upsampled canvases, each with half the sides of the one before.

    Coarse shapes change as fast as fine detail, because a step of a coarse level changes many pixels together.

    Args:
        levels: Number of levels, >= 1, including the full resolution. Small images have fewer: none is repeated.
        std: Standard deviation of each initial level, >= 0.

    Raises:
        SettingError: A value is out of its range.

    Source: Lucid, lucid/optvis/param/spatial.py, `laplacian_pyramid`.
    """

    levels: int = 4
    std: float = 0.01

    @property
    def traits(self) -> ParamTraits:
        """The leaf tensors are pixels."""
        return ParamTraits(pixels=True)

    def __post_init__(self) -> None:
        """Check the values."""
        check_number("std of Pyramid", self.std, at_least=0, note=f"(default {Pyramid.std})")
        note = f"(default {Pyramid.levels})"
        check_number("levels of Pyramid", self.levels, at_least=1, at_most=MAX_LEVELS, whole=True, note=note)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw every level of each image, the finest first."""
        return [self.std * rng.normal(channels, *side) for side in self._sizes(size)]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Decompose a canvas: each level holds what the enlarged next coarser one lacks."""
        pools: list[Any] = [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d]
        levels = [pools[canvas.ndim - 3](canvas, size) for size in self._sizes(tuple(canvas.shape[2:]))]
        finer = [level - _enlarge(coarse, level.shape[2:]) for level, coarse in pairwise(levels)]
        return [*finer, levels[-1].clone()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Add up the levels, from the coarsest to the finest."""
        canvas = leaves[-1]
        for finer in reversed(leaves[:-1]):
            canvas = finer + _enlarge(canvas, finer.shape[2:])
        return canvas

    def _sizes(self, size: Size) -> list[Size]:
        """Return the size of each level, rounded up, without repetitions."""
        sizes = [tuple(-(-side // 2**level) for side in size) for level in range(self.levels)]
        return [side for i, side in enumerate(sizes) if i == 0 or side != sizes[i - 1]]


def _enlarge(canvas: Tensor, size: tuple[int, ...]) -> Tensor:
    return canvas if canvas.shape[2:] == size else F.interpolate(canvas, tuple(size), mode=linear_mode(canvas))
