"""A canvas held at several resolutions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, Size
from featviz.random import Generators


@dataclass(frozen=True)
class Pyramid:
    """A Laplacian pyramid: canvases of halved sides, enlarged and added up; coarse shapes come as easily as fine ones.

    Args:
        levels: how many, the finest among them; small pictures have fewer.
        std: deviation of each first level.

    Raises:
        SettingError: no level.

    Source: Lucid, lucid/optvis/param/spatial.py, `laplacian_pyramid`.
    """

    levels: int = 4
    std: float = 0.01

    def __post_init__(self) -> None:
        """Check the levels."""
        if self.levels < 1:
            raise SettingError(f"a pyramid of {self.levels} levels is no picture; give 1 or more")

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw every level of each image."""
        return [self.std * rng.normal(channels, *side) for side in self._sizes(size)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Take the canvas apart: the coarsest level first, then what each finer one adds."""
        levels = [F.adaptive_avg_pool2d(canvas, size) for size in self._sizes((canvas.shape[2], canvas.shape[3]))]
        finer = [level - _enlarged(coarse, level.shape[2:]) for level, coarse in pairwise(levels)]
        return [*finer, levels[-1].clone()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Enlarge the levels and add them up, from the coarsest."""
        canvas = leaves[-1]
        for finer in reversed(leaves[:-1]):
            canvas = finer + _enlarged(canvas, finer.shape[2:])
        return canvas

    def _sizes(self, size: Size) -> list[Size]:
        sizes = [(-(-size[0] // 2**level), -(-size[1] // 2**level)) for level in range(self.levels)]
        return [side for i, side in enumerate(sizes) if i == 0 or side != sizes[i - 1]]


def _enlarged(canvas: Tensor, size: tuple[int, ...]) -> Tensor:
    return canvas if canvas.shape[2:] == size else F.interpolate(canvas, tuple(size), mode="bilinear")
