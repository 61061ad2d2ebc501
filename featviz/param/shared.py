"""A canvas in part the same for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, ParamTraits, Size, Spatial, param_traits_of
from featviz.param.fourier import Fourier
from featviz.random import Generators


@dataclass(frozen=True)
class Shared:
    """Every picture has a canvas of its own, and all of a batch share coarse ones, so that they stay aligned.

    Args:
        own: how each picture's own part is held.
        factors: by how much each shared canvas is coarser than the picture.
        std: deviation of the first shared canvases.

    Raises:
        SettingError: a factor below 1.

    Source: Lucid, lucid/optvis/param/lowres.py, `lowres_tensor`.
    Differs: the grids of the shared canvases are set off against each other by half a cell, always the same way.
    """

    own: Spatial = Fourier()
    factors: tuple[int, ...] = (2, 4, 8)
    std: float = 0.01

    def __post_init__(self) -> None:
        """Check the factors."""
        if not self.factors or min(self.factors) < 1:
            raise SettingError(f"shared canvases coarser by {self.factors}; give factors of 1 or more")

    @property
    def traits(self) -> ParamTraits:
        """Those of the images' own part; the batch is coupled, and the shared canvases fix the size."""
        return replace(param_traits_of(self.own), couples_batch=True, any_size=False)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw each picture's own part and, with the first picture's numbers, what they share."""
        shared = [self.std * rng.normal(channels, *self._cells(size, factor))[:1] for factor in self.factors]
        return [*shared, *self.own.start(rng, channels, size)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Put all of it into the pictures' own parts."""
        cells = [self._cells((canvas.shape[2], canvas.shape[3]), factor) for factor in self.factors]
        return [*(canvas.new_zeros(1, canvas.shape[1], *cell) for cell in cells), *self.own.fit(canvas)]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Add up what is shared and what is not."""
        count = len(self.factors)
        canvas = self.own.canvas(leaves[count:], size)
        for i, (factor, leaf) in enumerate(zip(self.factors, leaves, strict=False)):
            down, along = (factor * cell for cell in leaf.shape[2:])
            wide = F.interpolate(leaf, (down, along), mode="bilinear")
            top, left = (factor // 2 * (i % 2), factor // 2 * (1 - i % 2))
            canvas = canvas + wide[:, :, top : top + size[0], left : left + size[1]]
        return canvas

    def _cells(self, size: Size, factor: int) -> Size:
        """Return how many cells cover the picture and half a cell more."""
        return -(-size[0] // factor) + 1, -(-size[1] // factor) + 1
