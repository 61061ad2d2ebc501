"""The default param: a spatial part that parameterizes a canvas, and a colour part that makes it an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_kind, check_number, check_size, is_made
from featviz.errors import SettingError, shown
from featviz.interfaces import Color, Leaves, ParamTraits, Size, Spatial, param_traits_of
from featviz.param.color import default_color
from featviz.param.fourier import Fourier
from featviz.random import Generators

MAX_BATCH = 65536
"""Largest number of images per objective."""


@dataclass(frozen=True, init=False)
class Image:
    """Images parameterized by a spatial part and a colour part.

    Args:
        size: Height and width in px, or one side; for signals and volumes the length of each axis, as (4096,). `None`
            for the network's input size.
        batch: Number of images per objective, >= 1.
        spatial: How the canvas is parameterized.
        color: How the canvas becomes an image in [0, 1]; `None` for `Decorrelated` with three colours or with the
            prior of `spatial`, `Plain` otherwise.

    Raises:
        SettingError: A value is out of its range, or `spatial` lacks a method.

    >>> Image(256, batch=4).size
    (256, 256)
    """

    size: Size | None
    batch: int
    spatial: Spatial
    color: Color | None

    def __init__(
        self,
        size: int | Size | None = None,
        batch: int = 1,
        spatial: Spatial = Fourier(),
        color: Color | None = None,
    ) -> None:
        if not is_made(spatial, Spatial):
            missing = [name for name in ("start", "fit", "canvas") if not hasattr(spatial, name)]
            lacks = f"{type(spatial).__name__} lacks {', '.join(missing)}" if missing else f"got {shown(spatial)}"
            raise SettingError(f"the spatial part of a param needs the methods start, fit and canvas; {lacks}")
        size = None if size is None else check_size("size", size)
        check_number("batch", batch, at_least=1, at_most=MAX_BATCH, whole=True)
        if color is not None:
            check_kind("color of a param", color, Color, "use e.g. param.Decorrelated()")
        vars(self).update(size=size, batch=batch, spatial=spatial, color=color)

    def sized(self, size: Size | None, batch: int) -> Image:
        """Return the same param with another size and batch, as `Resizable` describes."""
        return replace(self, size=size or self.size, batch=batch if batch != 1 else self.batch)

    @property
    def traits(self) -> ParamTraits:
        """Traits of the spatial part."""
        return param_traits_of(self.spatial)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the initial tensors of each image."""
        return self.spatial.start(rng, channels, size)

    def fit(self, images: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give these images, as far as the spatial part can represent them."""
        return self.spatial.fit(self._color(images).canvas(images))

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Compute the images in [0, 1], differentiably."""
        canvas = self.spatial.canvas(leaves, size)
        return self._color(canvas).image(canvas)

    def _color(self, images: Tensor) -> Color:
        return self.color or default_color(images.shape[1], self.traits.color_prior, images.ndim - 2)
