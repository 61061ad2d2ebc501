"""Geometric transforms: affine maps of pixel coordinates, of which neighbours are fused into one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import MAX_SIDE, check_number, check_size
from featviz.errors import SettingError
from featviz.interfaces import Size, as_size
from featviz.random import Generators
from featviz.transforms.checks import check_draws, check_fill, check_px
from featviz.transforms.distributions import Distribution, LogUniform, Uniform, sample
from featviz.transforms.resampling import AffineMap, identity

UNCHANGED = "(1 changes nothing)"

# ---------------------------------------------------------------------------------------------- padding and cropping


@dataclass(frozen=True)
class Pad:
    """Extend the image on every side.

    Args:
        px: Width of the padding in px, a whole number >= 0.
        fill: Value of the padding, in [0, 1]; `None` to mirror the image.

    Raises:
        SettingError: `px` is negative or not a whole number, or `fill` is out of its range.

    Source: Lucid, lucid/optvis/transform.py, `pad`.
    """

    px: int
    fill: float | None = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        check_px("px of Pad", self.px)
        check_fill("fill of Pad", self.fill)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Shift the image by the padding on the left and at the top."""
        return _translation(len(rng), self.px, self.px), (size[0] + 2 * self.px, size[1] + 2 * self.px)


@dataclass(frozen=True)
class Crop:
    """Crop the image on every side.

    Args:
        px: Width in px that is removed on each side, a whole number >= 0.

    Raises:
        SettingError: `px` is negative or not a whole number; or, at `place`, the image is too small.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the width."""
        check_px("px of Crop", self.px)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Shift the image by what is removed on the left and at the top."""
        return _translation(len(rng), -self.px, -self.px), _shrink(self, size, 2 * self.px)


@dataclass(frozen=True)
class Jitter:
    """Crop a window at a random position, `px` smaller than the image along each axis.

    All pixels of the window are pixels of the image, and all positions are equally likely.

    Args:
        px: Difference in px between the sides of image and window, a whole number >= 0.

    Raises:
        SettingError: `px` is negative or not a whole number; or, at `place`, the image is too small.

    Source: Lucid, lucid/optvis/transform.py, `jitter`.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the distance."""
        check_px("px of Jitter", self.px)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the corner of each window, in whole px."""
        corner = (rng.uniform(2) * (self.px + 1)).floor()
        return _translation(len(rng), -corner[:, 0], -corner[:, 1]), _shrink(self, size, self.px)


@dataclass(frozen=True)
class CropOrPadTo:
    """Crop or pad the image symmetrically to a size.

    Args:
        size: Height and width in px, or one side, >= 1.
        fill: Value of the padding, in [0, 1]; `None` to mirror the image.

    Raises:
        SettingError: A value is out of its range.

    Source: Lucid, lucid/optvis/transform.py, `crop_or_pad_to`.
    """

    size: int | Size
    fill: float | None = 0.5

    def __post_init__(self) -> None:
        """Convert the size, and check the values."""
        object.__setattr__(self, "size", check_size("size of CropOrPadTo", self.size))
        check_fill("fill of CropOrPadTo", self.fill)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Move the center to the new center, by whole px."""
        height, width = as_size(self.size)
        return _translation(len(rng), (width - size[1]) // 2, (height - size[0]) // 2), (height, width)


# ---------------------------------------------------------------------------------------------- shift, rotation, scale


@dataclass(frozen=True)
class Shift:
    """Shift the image by a random distance and keep its size. What enters is mirrored or padding.

    Args:
        share: Largest shift in both directions, as a fraction of each side.
    """

    share: float

    def __post_init__(self) -> None:
        """Check the share."""
        check_number("share of Shift", self.share, at_least=0)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the shift of each image along both axes."""
        move = (2 * rng.uniform(2) - 1) * self.share
        return _translation(len(rng), move[:, 0] * size[1], move[:, 1] * size[0]), size


@dataclass(frozen=True)
class Rotate:
    """Rotate the image about its center.

    Args:
        degrees: Angle in degrees, counter-clockwise: a distribution, or a number d for angles from -d to d.

    Source: Lucid, lucid/optvis/transform.py, `random_rotate`.
    """

    degrees: Distribution | float

    def __post_init__(self) -> None:
        """Check the angle."""
        check_draws("degrees of Rotate", self.degrees)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the angle of each image."""
        degrees = Uniform(-self.degrees, self.degrees) if isinstance(self.degrees, int | float) else self.degrees
        angle = degrees.sample(rng) * (math.pi / 180)
        # Counter-clockwise as seen, because y points down.
        matrix = identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
        matrix[:, 0, 1], matrix[:, 1, 0] = angle.sin(), -angle.sin()
        return _about_center(matrix, size), size


@dataclass(frozen=True)
class Scale:
    """Enlarge or shrink the image about its center and keep its size.

    Args:
        factor: Factor > 0, a number or a distribution; above 1 enlarges.

    Raises:
        SettingError: `factor` may be 0 or less.

    Source: Lucid, lucid/optvis/transform.py, `random_scale`.
    Differs: the size of the view stays, because every image of a batch draws a factor of its own.
    """

    factor: Distribution | float

    def __post_init__(self) -> None:
        """Check the factor."""
        check_draws("factor of Scale", self.factor, above=0, note=UNCHANGED)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the factor of each image."""
        factor = sample(self.factor, rng)
        matrix = identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = factor
        return _about_center(matrix, size), size


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right with probability 0.5."""

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw which images are mirrored."""
        matrix = identity(len(rng))
        matrix[:, 0, 0] = torch.where(rng.uniform() < 0.5, -1.0, 1.0)
        return _about_center(matrix, size), size


# ---------------------------------------------------------------------------------------------- size of the view


@dataclass(frozen=True)
class ResizedView:
    """Crop a window of random size at a random position, and resize it. The canvas may be larger than the view.

    Args:
        zoom: Side of the image divided by the side of the window, >= 1: a number or a distribution.
        size: Height and width of the view in px, or one side, >= 1; `None` for the size of the image.
        whole: Probability in [0, 1] of a view of the whole image.

    Raises:
        SettingError: A value is out of its range.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, section 4, random crops.
    Differs: the zoom is uniform on a logarithmic scale, and some views show the whole image.
    """

    zoom: Distribution | float = LogUniform(1.0, 4.0)
    size: int | Size | None = None
    whole: float = 0.0

    def __post_init__(self) -> None:
        """Convert the size, and check the values."""
        check_draws("zoom of ResizedView", self.zoom, at_least=1, note=UNCHANGED)
        check_number("whole of ResizedView", self.whole, at_least=0, at_most=1, note="(default 0.0)")
        if self.size is not None:
            object.__setattr__(self, "size", check_size("size of ResizedView", self.size))

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw size and position of each window."""
        zoom, choice, corner = sample(self.zoom, rng), rng.uniform(), rng.uniform(2)
        zoom = torch.where(choice < self.whole, torch.ones_like(zoom), zoom)
        view = size if self.size is None else as_size(self.size)
        matrix = identity(len(rng))
        for axis, side in ((0, 1), (1, 0)):
            window = size[side] / zoom
            factor = view[side] / window
            first = corner[:, axis] * (size[side] - window)
            # The first edge of the window becomes the first edge of the view. Edges lie half a pixel outside of the
            # centers of the outer pixels: (p + 0.5 - first) * factor - 0.5.
            matrix[:, axis, axis] = factor
            matrix[:, axis, 2] = (0.5 - first) * factor - 0.5
        return matrix, view


@dataclass(frozen=True)
class Resize:
    """Resize the image.

    Args:
        size: Height and width in px, or a fraction of the image's size, > 0.
        min_side: Shorter side in px below which a fraction does not shrink an image; 0 for no limit.

    Raises:
        SettingError: `size` is out of its range.
    """

    size: Size | float
    min_side: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        check_number("min_side of Resize", self.min_side, at_least=0, at_most=MAX_SIDE, whole=True)
        if isinstance(self.size, list):
            object.__setattr__(self, "size", tuple(self.size))
        if isinstance(self.size, tuple):
            check_size("size of Resize", self.size)
        else:
            check_number(
                "size of Resize", self.size, above=0, at_most=MAX_SIDE, note="(px, or a fraction of the image)"
            )

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Scale about the outer edges of the pixels, as `interpolate` does with `align_corners=False`."""
        new = self.size
        if not isinstance(new, tuple):
            fraction = max(new, min(1.0, self.min_side / min(size)))
            new = max(1, round(size[0] * fraction)), max(1, round(size[1] * fraction))
        vertical, horizontal = new[0] / size[0], new[1] / size[1]
        # Pixel centers are half a pixel from the edges: (p + 0.5) * factor - 0.5.
        matrix = identity(len(rng))
        matrix[:, 0, 0], matrix[:, 1, 1] = horizontal, vertical
        matrix[:, 0, 2], matrix[:, 1, 2] = (horizontal - 1) / 2, (vertical - 1) / 2
        return matrix, new


# ---------------------------------------------------------------------------------------------- sizes and matrices


def _translation(n: int, x: float | Tensor, y: float | Tensor) -> Float[Tensor, "n 3 3"]:
    matrix = identity(n)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def _about_center(matrix: Float[Tensor, "n 3 3"], size: Size) -> Float[Tensor, "n 3 3"]:
    """Return the map with its origin at the center of the image instead of at its first pixel."""
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return _translation(1, x, y) @ matrix @ _translation(1, -x, -y)


def _shrink(transform: Crop | Jitter, size: Size, px: int) -> Size:
    """Subtract a number of px from both sides, and check that the result is not empty."""
    if px >= min(size):
        raise SettingError(f"{transform} leaves nothing of {size[0]} x {size[1]} px; use fewer px or a larger image")
    return size[0] - px, size[1] - px
