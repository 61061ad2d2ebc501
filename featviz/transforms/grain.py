"""Transforms that take fine detail away, or hide it under noise, so that a picture cannot live from it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.protocols import Shape
from featviz.random import Generators
from featviz.transforms.spread import Spread


@dataclass(frozen=True)
class GaussianBlur:
    """Blur the image, mirrored at its edges.

    Args:
        sd: of the Gaussian, in px; a spread gives each image its own.

    Raises:
        SettingError: a number that is not above 0.
    """

    sd: Spread | float

    def __post_init__(self) -> None:
        """Check the width."""
        if isinstance(self.sd, int | float) and not self.sd > 0:
            raise SettingError(f"a blur of {self.sd} px does nothing; give a deviation above 0")

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, " n"]:
        """Draw the deviation of each image."""
        return self.sd.sample(rng) if isinstance(self.sd, Spread) else rng.uniform() * 0 + self.sd

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Blur as wide as the image allows."""
        from kornia.filters import gaussian_blur2d  # slow to import

        reach = 2 * round(3 * draw.max().item()) + 1
        sides = [min(reach, 2 * side - 1) for side in images.shape[2:]]
        sds = draw.clamp(min=1e-3)[:, None].expand(-1, 2).to(images)
        return gaussian_blur2d(images, (sides[0], sides[1]), sds, border_type="reflect")


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise to every pixel.

    Args:
        sd: its deviation, in [0, 1] pixel units.

    Source: Ghiasi et al. 2022, https://arxiv.org/abs/2212.06727, section 3, "Gaussian Smoothing".
    """

    sd: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw a number for each pixel."""
        return self.sd * rng.normal(*shape)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add it."""
        return images + draw.to(images)


@dataclass(frozen=True)
class UniformNoise:
    """Add even noise to every pixel.

    Args:
        amount: how far at most a pixel moves either way, in [0, 1] pixel units.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, section 4, the noise added to each crop.
    """

    amount: float

    def draw(self, rng: Generators, shape: Shape) -> Float[Tensor, "n c h w"]:
        """Draw a number for each pixel."""
        return self.amount * (2 * rng.uniform(*shape) - 1)

    def apply(self, images: Float[Tensor, "n c h w"], draw: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Add it."""
        return images + draw.to(images)
