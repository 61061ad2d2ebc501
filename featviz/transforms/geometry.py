"""Geometric transforms: affine maps of pixel coordinates, of which neighbours are fused into one resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.checks import MAX_SIDE, check_number, check_size
from featviz.errors import SettingError
from featviz.interfaces import MAX_AXES, Size, as_size, show_size
from featviz.random import Generators
from featviz.transforms.checks import check_draws, check_fill, check_px
from featviz.transforms.distributions import Distribution, LogUniform, Uniform, sample
from featviz.transforms.resampling import AffineMap, Matrices, identity

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
        return _translation(len(rng), [self.px] * len(size)), tuple(side + 2 * self.px for side in size)


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
        return _translation(len(rng), [-self.px] * len(size)), _shrink(self, size, 2 * self.px)


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
        corner = (rng.uniform(len(size)) * (self.px + 1)).floor()
        return _translation(len(rng), (-corner).unbind(1)), _shrink(self, size, self.px)


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
        """Move the centre to the new centre, by whole px."""
        new = _for_axes(self, self.size, len(size))
        return _translation(len(rng), [(side - old) // 2 for side, old in zip(new, size, strict=True)][::-1]), new


# ---------------------------------------------------------------------------------------------- shift, rotation, scale


@dataclass(frozen=True)
class Shift:
    """Shift the image by a random distance and keep its size.

    Uncovered pixels are filled by reflection, or with the fill value of a preceding padding transform.

    Args:
        share: Largest shift in both directions, as a fraction of each side, >= 0.

    Raises:
        SettingError: `share` is out of its range.
    """

    share: float

    def __post_init__(self) -> None:
        """Check the share."""
        check_number("share of Shift", self.share, at_least=0)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the shift of each image along each axis."""
        move = (2 * rng.uniform(len(size)) - 1) * self.share
        return _translation(len(rng), [move[:, i] * side for i, side in enumerate(reversed(size))]), size


@dataclass(frozen=True)
class Rotate:
    """Rotate the image about its centre. A volume is rotated in the plane of its last two axes.

    Args:
        degrees: Angle in degrees, counter-clockwise: a distribution, or a number d for angles from -d to d.

    Raises:
        SettingError: `degrees` is neither a number nor a distribution.

    Source: Lucid, lucid/optvis/transform.py, `random_rotate`.
    """

    degrees: Distribution | float

    def __post_init__(self) -> None:
        """Check the angle."""
        check_draws("degrees of Rotate", self.degrees)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the angle of each image.

        Raises:
            SettingError: The images have one axis.
        """
        if len(size) < 2:
            raise SettingError(f"{self} needs images with two axes or more, and signals have one; leave it out")
        degrees = self.degrees if isinstance(self.degrees, Distribution) else Uniform(-self.degrees, self.degrees)
        angle = degrees.sample(rng) * (math.pi / 180)
        # Counter-clockwise as seen, because y points down.
        matrix = identity(len(rng), len(size))
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
        matrix[:, 0, 1], matrix[:, 1, 0] = angle.sin(), -angle.sin()
        return _about_center(matrix, size), size


@dataclass(frozen=True)
class Scale:
    """Enlarge or shrink the image about its centre and keep its size. Signals are stretched in time.

    Args:
        factor: Factor > 0, a number or a distribution; above 1 enlarges.
        axes: Number of axes that are scaled, counted from the last one, such as 2 for the plane of video without its
            time; `None` for all.

    Raises:
        SettingError: `factor` may be 0 or less.

    Source: Lucid, lucid/optvis/transform.py, `random_scale`.
    Differs: the size of the view stays, because every image of a batch draws a factor of its own.
    """

    factor: Distribution | float
    axes: int | None = None

    def __post_init__(self) -> None:
        """Check the factor and the number of axes."""
        check_draws("factor of Scale", self.factor, above=0, note=UNCHANGED)
        if self.axes is not None:
            check_number("axes of Scale", self.axes, at_least=1, at_most=MAX_AXES, whole=True)

    def __repr__(self) -> str:
        """Return the call, without `axes` where it scales all."""
        return f"Scale(factor={self.factor!r}{'' if self.axes is None else f', axes={self.axes}'})"

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw the factor of each image."""
        factor = sample(self.factor, rng)
        matrix = identity(len(rng), len(size))
        for axis in range(min(self.axes or len(size), len(size))):
            matrix[:, axis, axis] = factor
        return _about_center(matrix, size), size


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right with probability 0.5; a signal from its end to its start."""

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Draw which images are mirrored."""
        matrix = identity(len(rng), len(size))
        matrix[:, 0, 0] = torch.where(rng.uniform() < 0.5, -1.0, 1.0)
        return _about_center(matrix, size), size


# ---------------------------------------------------------------------------------------------- size of the view


@dataclass(frozen=True)
class ResizedView:
    """Crop a window of random size at a random position, and resize it. The image may be larger than the view.

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
        zoom, choice, corner = sample(self.zoom, rng), rng.uniform(), rng.uniform(len(size))
        zoom = torch.where(choice < self.whole, torch.ones_like(zoom), zoom)
        view = size if self.size is None else _for_axes(self, self.size, len(size))
        matrix = identity(len(rng), len(size))
        for axis, side in enumerate(reversed(range(len(size)))):
            window = size[side] / zoom
            factor = view[side] / window
            first = corner[:, axis] * (size[side] - window)
            # The first edge of the window becomes the first edge of the view. Edges lie half a pixel outside of the
            # centres of the outer pixels: (p + 0.5 - first) * factor - 0.5.
            matrix[:, axis, axis] = factor
            matrix[:, axis, -1] = (0.5 - first) * factor - 0.5
        return matrix, view


MAX_ENLARGEMENT = 8
"""Largest factor by which `Resize` enlarges an image: larger numbers are meant to be sides in px."""


@dataclass(frozen=True)
class Resize:
    """Resize the image.

    Args:
        size: Height and width in px, or a factor of the image's sides, > 0 and at most 8.
        min_side: Smallest shorter side in px to which a factor shrinks an image; 0 for no limit.

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
            note = "(a fraction of the image's sides; or height and width in px, such as (224, 224))"
            check_number("size of Resize", self.size, above=0, at_most=MAX_ENLARGEMENT, note=note)

    def place(self, rng: Generators, size: Size) -> AffineMap:
        """Scale about the outer edges of the pixels, as `interpolate` does with `align_corners=False`."""
        new = self.size
        if not isinstance(new, tuple):
            fraction = max(new, min(1.0, self.min_side / min(size)))
            new = tuple(max(1, round(side * fraction)) for side in size)
        new = _for_axes(self, new, len(size))
        # Pixel centres are half a pixel from the edges: (p + 0.5) * factor - 0.5.
        matrix = identity(len(rng), len(size))
        for axis, (side, old) in enumerate(zip(reversed(new), reversed(size), strict=True)):
            factor = side / old
            matrix[:, axis, axis], matrix[:, axis, -1] = factor, (factor - 1) / 2
        return matrix, new


# ---------------------------------------------------------------------------------------------- sizes and matrices


def _translation(n: int, distances: Sequence[float | Tensor]) -> Matrices:
    """Return maps that shift the image along x, y and z: the last axis first."""
    matrix = identity(n, len(distances))
    for axis, distance in enumerate(distances):
        matrix[:, axis, -1] = distance
    return matrix


def _about_center(matrix: Matrices, size: Size) -> Matrices:
    """Return the map with its origin at the centre of the image instead of at its first pixel."""
    center = [(side - 1) / 2 for side in reversed(size)]
    return _translation(1, center) @ matrix @ _translation(1, [-each for each in center])


def _for_axes(transform: object, size: int | Size, axes: int) -> Size:
    """Return the length of each axis of a transform's size; one number is the length of all axes.

    Raises:
        SettingError: `size` has another number of axes.
    """
    sides = as_size(size, axes)
    if len(sides) != axes:
        raise SettingError(f"{transform} has a size of {len(sides)} axes, and the images have {axes}; give {axes}")
    return sides


def _shrink(transform: Crop | Jitter, size: Size, px: int) -> Size:
    """Subtract a number of px from both sides, and check that the result is not empty."""
    if px >= min(size):
        raise SettingError(f"{transform} leaves nothing of {show_size(size)} px; use fewer px or a larger image")
    return tuple(side - px for side in size)
