"""A canvas held as its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Leaves, Size
from featviz.random import Generators


@dataclass(frozen=True)
class Pixel:
    """Every pixel for itself: plain, and noisy, since high frequencies come as easily as low ones.

    Args:
        std: deviation of the first canvas.

    Source: Lucid, lucid/optvis/param/spatial.py, `naive`.
    """

    std: float = 0.01

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw pixels for each image."""
        return [self.std * rng.normal(channels, *size)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Take the canvas as it is."""
        return [canvas.clone()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Return the pixels."""
        return leaves[0]
