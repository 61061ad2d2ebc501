"""The usual param: a spatial part that parameterizes a canvas, and a colour part that makes it an image."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Color, Leaves, ParamTraits, Size, Spatial, as_size, param_traits_of
from featviz.param.color import default_color
from featviz.param.fourier import Fourier
from featviz.random import Generators


@dataclass(frozen=True, init=False)
class Image:
    """Images parameterized by a spatial part and a colour part.

    Args:
        size: Height and width in px, or one side; `None` for the network's input size.
        batch: Number of images per objective, >= 1.
        spatial: How the canvas is parameterized.
        color: How the canvas becomes an image in [0, 1]; `None` for `Decorrelated` with three channels or with the
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
        if not isinstance(spatial, Spatial):
            missing = [name for name in ("start", "fit", "canvas") if not hasattr(spatial, name)]
            raise SettingError(
                "the spatial part of a param needs the methods start, fit and canvas; "
                f"{type(spatial).__name__} lacks {', '.join(missing)}"
            )
        size = None if size is None else as_size(size)
        if size is not None and min(size) < 1:
            raise SettingError(f"size must be at least 1 px on each side, got {size[0]} x {size[1]}")
        if batch < 1:
            raise SettingError(f"batch must be >= 1, got {batch}")
        vars(self).update(size=size, batch=batch, spatial=spatial, color=color)

    @property
    def traits(self) -> ParamTraits:
        """Those of the spatial part."""
        return param_traits_of(self.spatial)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the initial tensors of each image."""
        return self.spatial.start(rng, channels, size)

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Return tensors that give these images, as far as the spatial part can represent them."""
        return self.spatial.fit(self._color(images.shape[1]).canvas(images))

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Compute the images in [0, 1], differentiably."""
        canvas = self.spatial.canvas(leaves, size)
        return self._color(canvas.shape[1]).image(canvas)

    def _color(self, channels: int) -> Color:
        return self.color or default_color(channels, self.traits.color_prior)
