"""Params that wrap another param: with an alpha channel, limited to a region, or with fixed images in the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_kind
from featviz.errors import SettingError, shown
from featviz.interfaces import Leaves, ParamTraits, Size, Spatial
from featviz.io.image_source import ImageSource, as_image_source, as_mask_source, load_image_source
from featviz.param.color import Plain
from featviz.param.fourier import Fourier
from featviz.param.image import Image
from featviz.random import Generators


class Wrapper:
    """Base of params around an inner `Image`: its size, batch and traits are those of the inner param."""

    param: Image

    def __post_init__(self) -> None:
        """Check the inner param."""
        check_kind(f"param of {type(self).__name__}", self.param, Image, "use param.Image(...)")

    @property
    def size(self) -> Size | None:
        """Height and width in px; `None` for the network's input size."""
        return self.param.size

    @property
    def batch(self) -> int:
        """Number of images per objective."""
        return self.param.batch

    @property
    def traits(self) -> ParamTraits:
        """Traits of the inner param."""
        return self.param.traits

    def sized(self, size: Size | None, batch: int) -> Self:
        """Return the same wrapper around an inner param with another size and batch, as `Resizable` describes."""
        return replace(self, param=self.param.sized(size, batch))  # type: ignore[type-var]


@dataclass(frozen=True)
class Alpha(Wrapper):
    """Images with an alpha channel, in which parts that do not matter to the objective become transparent.

    They are laid over random backgrounds (`transforms.CompositeAlpha`). Subtract the objective `opacity` for
    more transparency.

    Args:
        param: How colour is parameterized. Alpha is parameterized in the same way, but not with a colour prior.

    Raises:
        SettingError: `param` is no `param.Image`.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns".
    """

    param: Image = Image()

    @property
    def _alpha(self) -> Spatial:
        """Parameterization of alpha: that of colour, without a colour prior."""
        return self.param.spatial if self.traits.color_prior is None else Fourier()

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw alpha and colour of each image; alpha starts near 0.5."""
        return [*self._alpha.start(rng, 1, size), *self.param.start(rng, channels, size)]

    def fit(self, images: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give these images, opaque."""
        opaque = Plain().canvas(torch.ones_like(images[:, :1]))
        return [*self._alpha.fit(opaque), *self.param.fit(images)]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Compute the images in [0, 1], differentiably; the last channel is alpha."""
        # With one parameterization for both, half of the tensors are alpha's; otherwise it has the one of `Fourier`.
        count = 1 if self._alpha != self.param.spatial else len(leaves) // 2
        alpha = self._alpha.canvas(leaves[:count], size)
        return torch.cat([self.param.images(leaves[count:], size), alpha.sigmoid()], 1)


@dataclass(frozen=True)
class Masked(Wrapper):
    """Images that change only inside a mask. Render with `start=`, the image to change.

    Args:
        mask: A file, or numbers in [0, 1], (h, w) or (1, h, w), for volumes (1, d, h, w): 1 where the image may change,
            0 where it stays. It is cropped and resized to the size of the images.
        param: How the part inside the mask is parameterized.

    Raises:
        SettingError: The mask does not have one channel; or, at `start`, there is no image to start from.
    """

    mask: ImageSource
    param: Image = Image()

    def __post_init__(self) -> None:
        """Convert the mask to a value that a recipe can store."""
        super().__post_init__()
        object.__setattr__(self, "mask", as_mask_source(self.mask))

    @property
    def files(self) -> tuple[str, ...]:
        """Path of the mask, if it is a file."""
        return (self.mask,) if isinstance(self.mask, str) else ()

    @property
    def traits(self) -> ParamTraits:
        """Traits of the inner param, with one size, which is that of the start image."""
        return replace(self.param.traits, any_size=False)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Refuse to start from noise.

        Raises:
            SettingError: Always.
        """
        raise SettingError(
            "Masked keeps an image outside of its mask and needs one to start from; use start=, or --start"
        )

    def fit(self, images: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give these images; the last two, the images and the mask, stay fixed."""
        size = tuple(images.shape[2:])
        mask = load_image_source(self.mask, 1, size).to(images).expand(len(images), *[-1] * (images.ndim - 1)).clone()
        return [*self.param.fit(images), images.clone(), mask]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Blend the optimised images into the given ones by the mask, differentiably."""
        *free, given, mask = leaves
        return torch.lerp(given.detach(), self.param.images(free, size), mask.detach())


@dataclass(frozen=True)
class Stack(Wrapper):
    """Fixed images, followed by optimised ones, in one batch, so that an objective can compare them.

    Args:
        fixed: The fixed images: files, or numbers in [0, 1], (channels, h, w). They are centre-cropped to the
            aspect ratio of the optimised images, then resized.
        param: How the optimised images are parameterized; its batch is their number.

    Raises:
        SettingError: There is no fixed image, or one has another shape or values outside of [0, 1].

    Source: captum, captum/optim/_param/image/images.py, `StackImage`.
    """

    fixed: tuple[ImageSource, ...]
    param: Image = Image()

    def __post_init__(self) -> None:
        """Convert the images to values that a recipe can store."""
        super().__post_init__()
        if not isinstance(self.fixed, tuple | list):
            raise SettingError(f"fixed of Stack must be a tuple of images, got {shown(self.fixed)}")
        object.__setattr__(self, "fixed", tuple(as_image_source(image) for image in self.fixed))
        if not self.fixed:
            raise SettingError("fixed must hold at least one image, got (); without any, use param.Image(batch=...)")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the fixed images that are files."""
        return tuple(image for image in self.fixed if isinstance(image, str))

    @property
    def traits(self) -> ParamTraits:
        """Traits of the inner param, with a coupled batch and one size, as the fixed images have."""
        return replace(self.param.traits, couples_batch=True, any_size=False)

    @property
    def batch(self) -> int:
        """Number of all images, including the fixed ones."""
        return len(self.fixed) + self.param.batch

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Load the fixed images, and draw the initial tensors of the optimised ones."""
        fixed = self._load_fixed(channels, size)
        return [fixed, *self.param.start(rng[len(fixed) :], channels, size)]

    def fit(self, images: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give these images, except for the fixed ones at the start of the batch."""
        fixed = self._load_fixed(images.shape[1], tuple(images.shape[2:]))
        return [fixed, *self.param.fit(images[len(fixed) :])]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Return the fixed images, followed by the optimised ones."""
        return torch.cat([leaves[0].detach(), self.param.images(leaves[1:], size)])

    def _load_fixed(self, channels: int, size: Size) -> Float[Tensor, "n c *size"]:
        return torch.stack([load_image_source(image, channels, size) for image in self.fixed])
