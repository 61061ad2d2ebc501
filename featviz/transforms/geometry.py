"""Transforms that only move pixels. Each is an affine map, so neighbours fuse into one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.protocols import Geometric, Shape, Size
from featviz.random import Generators
from featviz.transforms.spread import Spread, Uniform

Place = tuple[Float[Tensor, "n 3 3"], Size]


@dataclass(frozen=True)
class Pad:
    """Widen the image on every side.

    Args:
        px: how far.
        value: what to fill with, in [0, 1]; `None` mirrors the image.

    Source: Lucid, lucid/optvis/transform.py, `pad`.
    """

    px: int
    value: float | None = 0.5

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
        matrix = _identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
        matrix[:, 0, 1], matrix[:, 1, 0] = angle.sin(), -angle.sin()
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class Scale:
    """Enlarge the image about its middle, the size unchanged.

    Args:
        factor: above 1 enlarges.

    Source: Lucid, lucid/optvis/transform.py, `random_scale`.
    Differs: the size stays, because every image of the batch has a factor of its own.
    """

    factor: Spread

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw the factor of each image."""
        factor = self.factor.sample(rng)
        matrix = _identity(len(rng))
        matrix[:, 0, 0] = matrix[:, 1, 1] = factor
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class Flip:
    """Mirror every other image left to right, by chance."""

    def place(self, rng: Generators, size: Size) -> Place:
        """Draw which images are mirrored."""
        matrix = _identity(len(rng))
        matrix[:, 0, 0] = torch.where(rng.uniform() < 0.5, -1.0, 1.0)
        return _about_middle(matrix, size), size


@dataclass(frozen=True)
class Resize:
    """Stretch the image to a size.

    Args:
        size: height and width in px.
    """

    size: Size

    def place(self, rng: Generators, size: Size) -> Place:
        """Stretch about the corners' outer edges, as image viewers do."""
        down, along = self.size[0] / size[0], self.size[1] / size[1]
        matrix = _identity(len(rng))
        matrix[:, 0, 0], matrix[:, 1, 1] = along, down
        matrix[:, 0, 2], matrix[:, 1, 2] = (along - 1) / 2, (down - 1) / 2
        return matrix, self.size


@dataclass(frozen=True)
class Warp:
    """Neighbouring geometric transforms as one resampling.

    Args:
        steps: in the order in which they apply.
    """

    steps: tuple[Geometric, ...]

    def draw(self, rng: Generators, shape: Shape) -> Place:
        """Draw every step and multiply the maps."""
        matrix, size = _identity(len(rng)), shape[1:]
        for step in self.steps:
            move, size = step.place(rng, size)
            matrix = move @ matrix
        return matrix, size

    def apply(self, images: Float[Tensor, "n c h w"], draw: Place) -> Float[Tensor, "n c h2 w2"]:
        """Resample once, bilinearly."""
        from kornia.geometry.transform import warp_affine  # slow to import

        matrix, size = draw
        fill = next((step.value for step in self.steps if isinstance(step, Pad)), None)
        channels = images.shape[1]
        return warp_affine(
            images,
            matrix[:, :2].to(images),
            size,
            padding_mode="reflection" if fill is None else "fill",
            fill_value=None if fill is None else images.new_full((channels,), fill),
            align_corners=True,
        )


def _not_negative(what: object, px: int) -> None:
    if px < 0:
        raise SettingError(f"{what} is below 0 px; give 0 or more")


def _identity(n: int) -> Float[Tensor, "n 3 3"]:
    return torch.eye(3).repeat(n, 1, 1)


def _shift(n: int, x: float | Tensor, y: float | Tensor) -> Float[Tensor, "n 3 3"]:
    matrix = _identity(n)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def _about_middle(matrix: Float[Tensor, "n 3 3"], size: Size) -> Float[Tensor, "n 3 3"]:
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return _shift(1, x, y) @ matrix @ _shift(1, -x, -y)


def _smaller(what: Crop | Jitter, size: Size, by: int) -> Size:
    if by >= min(size):
        raise SettingError(f"{what} leaves nothing of {size[0]} x {size[1]} px; give fewer px or a larger size")
    return size[0] - by, size[1] - by
