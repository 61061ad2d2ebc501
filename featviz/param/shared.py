"""Canvases that are partly the same for all images of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.checks import MAX_SIDE, check_kind, check_number
from featviz.errors import SettingError, shown
from featviz.interfaces import Leaves, ParamTraits, Size, Spatial, param_traits_of
from featviz.io import linear_mode
from featviz.param.fourier import Fourier
from featviz.random import Generators


@dataclass(frozen=True)
class Shared:
    """The sum of a canvas per image and coarse canvases that the whole batch shares.

    Shared canvases keep the images of a batch aligned, for example those between two objectives.

    Args:
        own: Parameterization of the part that belongs to each image alone.
        factors: Side in px of the cells of each shared canvas, integers >= 1.
        std: Standard deviation of the initial shared canvases, >= 0.

    Raises:
        SettingError: `factors` is empty, or a value is out of its range.

    Source: Lucid, lucid/optvis/param/lowres.py, `lowres_tensor`.
    Differs: the offsets of the grids are fixed at half a cell, alternately along columns and along rows.
    """

    own: Spatial = Fourier()
    factors: tuple[int, ...] = (2, 4, 8)
    std: float = 0.01

    def __post_init__(self) -> None:
        """Check the values."""
        check_number("std of Shared", self.std, at_least=0, note=f"(default {Shared.std})")
        check_kind("own of Shared", self.own, Spatial, "use e.g. param.Fourier()")
        if not isinstance(self.factors, tuple | list) or not self.factors:
            raise SettingError(
                f"factors must be one or more integers >= 1, got {shown(self.factors)} (default (2, 4, 8))"
            )
        object.__setattr__(self, "factors", tuple(self.factors))
        for factor in self.factors:
            check_number("each of the factors of Shared", factor, at_least=1, at_most=MAX_SIDE, whole=True)

    @property
    def traits(self) -> ParamTraits:
        """Traits of the images' own part, with a coupled batch and one size, as the shared canvases have."""
        return replace(param_traits_of(self.own), couples_batch=True, any_size=False)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the shared canvases with the first image's random numbers, and each image's own part."""
        shared = [self.std * rng.normal(channels, *self._cells(size, factor))[:1] for factor in self.factors]
        return [*shared, *self.own.start(rng, channels, size)]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Fit the images' own parts to the canvas; the shared canvases are 0."""
        cells = [self._cells(tuple(canvas.shape[2:]), factor) for factor in self.factors]
        return [*(canvas.new_zeros(1, canvas.shape[1], *cell) for cell in cells), *self.own.fit(canvas)]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Add the enlarged shared canvases to each image's own part."""
        count = len(self.factors)
        canvas = self.own.canvas(leaves[count:], size)
        for i, (factor, leaf) in enumerate(zip(self.factors, leaves, strict=False)):
            enlarged = F.interpolate(leaf, [factor * cells for cells in leaf.shape[2:]], mode=linear_mode(leaf))
            moved = len(size) - 1 - i % len(size)  # the last axis first: columns, then rows
            for axis, side in enumerate(size):
                enlarged = enlarged.narrow(2 + axis, factor // 2 if axis == moved else 0, side)
            canvas = canvas + enlarged
        return canvas

    def _cells(self, size: Size, factor: int) -> Size:
        """Return the cells along each axis that cover the image, and one more, because the grid is offset."""
        return tuple(-(-side // factor) + 1 for side in size)
