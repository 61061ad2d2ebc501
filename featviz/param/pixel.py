"""Canvases parameterized by their pixels."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.interfaces import Leaves, ParamTraits, Size
from featviz.random import Generators


@dataclass(frozen=True)
class Pixel:
    """Independent pixels. Results are noisy, because high frequencies change as fast as low ones.

    Args:
        std: Standard deviation of the initial canvas, >= 0.

    Raises:
        SettingError: `std` is out of its range.

    Source: Lucid, lucid/optvis/param/spatial.py, `naive`.
    """

    std: float = 0.01

    @property
    def traits(self) -> ParamTraits:
        """The leaf tensors are pixels."""
        return ParamTraits(pixels=True)

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        check_number("std of Pixel", self.std, at_least=0, note=f"(default {Pixel.std})")

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the pixels of each image."""
        return [self.std * rng.normal(channels, *size)]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Return a copy of the canvas."""
        return [canvas.clone()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Return the pixels."""
        return leaves[0]
