"""A picture: a way to hold the canvas, and a way to colour it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from featviz.color import usual_color
from featviz.errors import SettingError
from featviz.param.fourier import Fourier
from featviz.protocols import Color, Leaves, Param, Size, Spatial, as_size
from featviz.random import Generators


@dataclass(frozen=True)
class Image:
    """What is optimised: `spatial` holds the canvas, `color` makes it an image in [0, 1].

    Args:
        size: height and width in px; `None` means the network's own.
        batch: how many pictures of each objective.
        spatial: how the canvas is held.
        color: how it is coloured; `None` means decorrelated for three channels or by the prior of `spatial`, plain
            for any other number.

    Raises:
        SettingError: a size or batch below 1.
    """

    size: Size | None = None
    batch: int = 1
    spatial: Spatial = Fourier()
    color: Color | None = None

    def __post_init__(self) -> None:
        """Check the parts."""
        if not isinstance(self.spatial, Spatial):
            raise SettingError(f"{self.spatial!r} does not hold a canvas; Fourier() and Pixel() do")
        if self.size is not None and min(self.size) < 1:
            raise SettingError(f"size {self.size[0]} x {self.size[1]} has no pixels; give a height and width from 1")
        if self.batch < 1:
            raise SettingError(f"batch {self.batch} has no pictures; give 1 or more")

    @property
    def couples(self) -> bool:
        """Whether the pictures of a batch depend on each other."""
        return getattr(self.spatial, "couples", False)

    @property
    def scales(self) -> bool:
        """Whether the same leaves can be drawn at any size."""
        return getattr(self.spatial, "scales", False)

    @property
    def near(self) -> bool:
        """Whether it wants to be seen from close by."""
        return getattr(self.spatial, "near", False)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a beginning for each image."""
        return self.spatial.start(rng, channels, size)

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images."""
        return self.spatial.fit(self._color(images.shape[1]).canvas(images))

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn leaves into images in [0, 1]."""
        canvas = self.spatial.canvas(leaves, size)
        return self._color(canvas.shape[1]).image(canvas)

    def _color(self, channels: int) -> Color:
        return self.color or usual_color(channels, getattr(self.spatial, "prior", None))


def image(
    size: int | Size | None = None, *, batch: int = 1, spatial: Spatial = Fourier(), color: Color | None = None
) -> Image:
    """Make an `Image`, from a side length or a height and width in px.

    >>> image(256, batch=4).size
    (256, 256)
    """
    if size is None:
        return Image(None, batch, spatial, color)
    return Image(as_size(size), batch, spatial, color)


def sized(param: Param | Spatial, size: Size | None, batch: int) -> Param:
    """Give a param, or a spatial part alone, a size and a batch; `None` and 1 leave a param's own.

    >>> sized(Fourier(), (64, 96), 2).size
    (64, 96)
    """
    if isinstance(param, Image):
        return replace(param, size=size or param.size, batch=batch if batch != 1 else param.batch)
    if isinstance(param, Spatial):
        return Image(size, batch, param)
    inner = getattr(param, "image", None)
    return replace(param, image=sized(inner, size, batch)) if isinstance(inner, Image) else param  # type: ignore[type-var]
