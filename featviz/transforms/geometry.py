"""Transforms that only move pixels. Each is an affine map, so neighbours fuse into one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.random import Generators
from featviz.transforms.distributions import LogUniform, Spread, Uniform, check_positive, sample
from featviz.transforms.resampling import Place, identity


@dataclass(frozen=True)
class Pad:
    """Widen the image on every side.

    Args:
        px: how far.
        fill: what to fill with, in [0, 1]; `None` mirrors the image.

    Source: Lucid, lucid/optvis/transform.py, `pad`.
    """

    px: int
    fill: float | None = 0.5

    def __post_init__(self) -> None:
        """Check the width."""
        _not_negative(self, self.px)

    def place(self, rng: Generators, size: Size) -> Place:
        """Move the image in by `px`."""
        return _shift(len(rng), self.px, self.px), (size[0] + 2 * self.px, size[1] + 2 * self.px)


@dataclass(frozen=True)
class Crop:
    """Cut the middle out.

    Args:
        px: how much goes on every side.

    Raises:
        SettingError: below 0 px; or, at `place`, nothing would be left.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the width."""
        _not_negative(self, self.px)

    def place(self, rng: Generators, size: Size) -> Place:
        """Move the image out by `px`."""
        return _shift(len(rng), -self.px, -self.px), _smaller(self, size, 2 * self.px)


@dataclass(frozen=True)
class Jitter:
    """Cut a window at a random place, `px` smaller than the image: all of it real pixels, none one-sided.

    Args:
        px: how much smaller.

    Raises:
        SettingError: below 0 px; or, at `place`, nothing would be left.

    Source: Lucid, lucid/optvis/transform.py, `jitter`.
    """

    px: int

    def __post_init__(self) -> None:
        """Check the width."""
        _not_negative(self, self.px)

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw where the window lies, in whole pixels."""
        corner = (rng.uniform(2) * (self.px + 1)).floor()
        return _shift(len(rng), -corner[:, 0], -corner[:, 1]), _smaller(self, size, self.px)


@dataclass(frozen=True)
class Shift:
    """Move the image about, the size unchanged; what comes in from outside is mirrored or padding.

    Args:
        share: how far at most, as a share of each side.
    """

    share: float

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw how far each image moves."""
        move = (2 * rng.uniform(2) - 1) * self.share
        return _shift(len(rng), move[:, 0] * size[1], move[:, 1] * size[0]), size


@dataclass(frozen=True)
class Rotate:
    """Turn the image about its middle.

    Args:
        degrees: counter-clockwise; a plain number spreads evenly from minus to plus itself.

    Source: Lucid, lucid/optvis/transform.py, `random_rotate`.
    """

    degrees: Spread | float

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw the angle of each image."""
        spread = Uniform(-self.degrees, self.degrees) if isinstance(self.degrees, int | float) else self.degrees
        angle = spread.sample(rng) * (math.pi / 180)
        matrix = identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
        matrix[:, 0, 1], matrix[:, 1, 0] = angle.sin(), -angle.sin()
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class Scale:
    """Enlarge the image about its middle, the size unchanged.

    Args:
        factor: above 1 enlarges; a number, or a spread of them.

    Raises:
        SettingError: a factor of 0 or less.

    Source: Lucid, lucid/optvis/transform.py, `random_scale`.
    Differs: the size stays, because every image of the batch has a factor of its own.
    """

    factor: Spread | float

    def __post_init__(self) -> None:
        """Check the factor."""
        check_positive(self, self.factor)

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw the factor of each image."""
        factor = sample(self.factor, rng)
        matrix = identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = factor
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right with a chance of one half."""

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw which images are mirrored."""
        matrix = identity(len(rng))
        matrix[:, 0, 0] = torch.where(rng.uniform() < 0.5, -1.0, 1.0)
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class CropOrPadTo:
    """Bring the image to a size about its middle, cutting what is too much and widening what is too little.

    Args:
        size: height and width in px.
        fill: what to fill with, in [0, 1]; `None` mirrors the image.

    Raises:
        SettingError: nothing would be left.

    Source: Lucid, lucid/optvis/transform.py, `crop_or_pad_to`.
    """

    size: Size
    fill: float | None = 0.5

    def __post_init__(self) -> None:
        """Check the size."""
        if min(self.size) < 1:
            raise SettingError(f"{self} leaves nothing; give a height and width from 1 px")

    def place(self, rng: Generators, size: Size) -> Place:
        """Move the middle to the new middle, in whole pixels."""
        return _shift(len(rng), (self.size[1] - size[1]) // 2, (self.size[0] - size[0]) // 2), self.size


@dataclass(frozen=True)
class ResizedView:
    """Look at a window of random size at a random place, brought to one size: a canvas may be larger than the view.

    Args:
        zoom: 1 is the whole image, 4 a quarter of each side; a number, or a spread of them.
        size: height and width in px of what comes out; `None` means as large as the image.
        whole: how often the whole image is looked at all the same, in [0, 1].

    Raises:
        SettingError: a zoom of 0 or less.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, section 4, random crops.
    Differs: the zoom is even on a logarithmic scale, and the whole is looked at, too.
    """

    zoom: Spread | float = LogUniform(1.0, 4.0)
    size: Size | None = None
    whole: float = 0.0

    def __post_init__(self) -> None:
        """Check the zoom."""
        check_positive(self, self.zoom)

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw how large the window is and where it lies."""
        zoom, chance, corner = sample(self.zoom, rng), rng.uniform(), rng.uniform(2)
        zoom = torch.where(chance < self.whole, torch.ones_like(zoom), zoom)
        out = self.size or size
        matrix = identity(len(rng))
        for axis, side in ((0, 1), (1, 0)):
            window = size[side] / zoom
            grow = out[side] / window
            first = corner[:, axis] * (size[side] - window)
            matrix[:, axis, axis] = grow
            matrix[:, axis, 2] = (0.5 - first) * grow - 0.5
        return matrix, out


@dataclass(frozen=True)
class Resize:
    """Stretch the image to a size.

    Args:
        size: height and width in px, or a share of the image's own.
        least: the shorter side in px below which no share shrinks an image.

    Raises:
        SettingError: nothing would be left.
    """

    size: Size | float
    least: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        if min(self.size if isinstance(self.size, tuple) else (self.size,)) <= 0:
            raise SettingError(f"{self} leaves nothing; give px or a share above 0")

    def place(self, rng: Generators, size: Size) -> Place:
        """Stretch about the corners' outer edges, as image viewers do."""
        new = self.size
        if not isinstance(new, tuple):
            share = max(new, min(1.0, self.least / min(size)))
            new = max(1, round(size[0] * share)), max(1, round(size[1] * share))
        down, along = new[0] / size[0], new[1] / size[1]
        matrix = identity(len(rng))
        matrix[:, 0, 0], matrix[:, 1, 1] = along, down
        matrix[:, 0, 2], matrix[:, 1, 2] = (along - 1) / 2, (down - 1) / 2
        return matrix, new


def _not_negative(what: object, px: int) -> None:
    if px < 0:
        raise SettingError(f"{what} is below 0 px; give 0 or more")
    if px != int(px):
        raise SettingError(f"{what} is no whole number of px; give one")


def _shift(n: int, x: float | Tensor, y: float | Tensor) -> Float[Tensor, "n 3 3"]:
    matrix = identity(n)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def _about_middle(matrix: Float[Tensor, "n 3 3"], size: Size) -> Float[Tensor, "n 3 3"]:
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return _shift(1, x, y) @ matrix @ _shift(1, -x, -y)


def _smaller(what: Crop | Jitter, size: Size, by: int) -> Size:
    if by >= min(size):
        raise SettingError(f"{what} leaves nothing of {size[0]} x {size[1]} px; give fewer px or a larger size")
    return size[0] - by, size[1] - by
