"""Params around another: with an alpha channel, free in one region only, or beside pictures that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, Param, ParamTraits, Size, Spatial
from featviz.io.image_source import ImageSource, as_image_source, as_mask_source, load_image_source
from featviz.param.color import Plain
from featviz.param.fourier import Fourier
from featviz.param.image import Image
from featviz.random import Generators


class Wrapper:
    """Base of params around an inner `Image`: its size, batch and traits are those of the inner param."""

    param: Image

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
        """Those of the inner param."""
        return self.param.traits


@dataclass(frozen=True)
class Alpha(Wrapper):
    """A picture with an alpha channel: what does not matter to the objective becomes transparent.

    It is seen over noise that it cannot foresee (`transforms.CompositeAlpha`). Subtract `opacity` to keep it small.

    Args:
        param: How colour is parameterized. Alpha is parameterized the same way, without the colour prior.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns".
    """

    param: Image = Image()

    @property
    def _opacity(self) -> Spatial:
        """How the alpha channel is held: as colour is, but without what is known of colours."""
        return self.param.spatial if self.traits.color_prior is None else Fourier()

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw colour and alpha of each image, half opaque."""
        return [*self._opacity.start(rng, 1, size), *self.param.start(rng, channels, size)]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images, opaque."""
        opaque = Plain().canvas(torch.ones_like(images[:, :1]))
        return [*self._opacity.fit(opaque), *self.param.fit(images)]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn leaves into images in [0, 1], alpha last."""
        count = 1 if self._opacity != self.param.spatial else len(leaves) // 2
        alpha = self._opacity.canvas(leaves[:count], size)
        return torch.cat([self.param.images(leaves[count:], size), alpha.sigmoid()], 1)


@dataclass(frozen=True)
class Masked(Wrapper):
    """A given picture of which only a region changes: render with `start=` that picture.

    Args:
        mask: a file, or (1, h, w) or (h, w) in [0, 1]; 1 is free, 0 stays. Cut and resized to the picture's shape.
        param: How the free region is parameterized.

    Raises:
        SettingError: the mask is no picture of one channel; or, at `start`, there is no picture to begin from.
    """

    mask: ImageSource
    param: Image = Image()

    def __post_init__(self) -> None:
        """Take paths and tensors, too."""
        object.__setattr__(self, "mask", as_mask_source(self.mask))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the mask, if it came from one."""
        return (self.mask,) if isinstance(self.mask, str) else ()

    @property
    def traits(self) -> ParamTraits:
        """Those of the inner param; the size is that of the start image."""
        return replace(self.param.traits, any_size=False)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Refuse: noise is no picture."""
        raise SettingError("Masked keeps a picture outside of its mask; give one to begin from: start=, or --start")

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images; these and the mask are held."""
        size = (images.shape[2], images.shape[3])
        mask = load_image_source(self.mask, 1, size).to(images).expand(len(images), -1, -1, -1).clone()
        return [*self.param.fit(images), images.clone(), mask]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Lay the free region over the given pictures."""
        *free, given, mask = leaves
        return torch.lerp(given.detach(), self.param.images(free, size), mask.detach())


@dataclass(frozen=True)
class Stack(Wrapper):
    """Pictures that stay as they are, and free ones after them: to be compared within one batch.

    Args:
        pictures: files, or (channels, h, w) in [0, 1]; their middles are cut to the shape of the free ones.
        param: How the free images are parameterized; its batch is their number.

    Raises:
        SettingError: there is none.

    Source: captum, captum/optim/_param/image/images.py, `StackImage`.
    """

    pictures: tuple[ImageSource, ...]
    param: Image = Image()

    def __post_init__(self) -> None:
        """Take paths and tensors, too."""
        object.__setattr__(self, "pictures", tuple(as_image_source(picture) for picture in self.pictures))
        if not self.pictures:
            raise SettingError("a stack needs a picture that stays; without one, use param.Image(batch=...)")

    @property
    def files(self) -> tuple[str, ...]:
        """Files of the fixed images."""
        return tuple(picture for picture in self.pictures if isinstance(picture, str))

    @property
    def traits(self) -> ParamTraits:
        """Those of the inner param; the batch is coupled, and the fixed images have one size."""
        return replace(self.param.traits, couples_batch=True, any_size=False)

    @property
    def batch(self) -> int:
        """Number of all images, the fixed ones included."""
        return len(self.pictures) + self.param.batch

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a beginning for each free image; the others are held."""
        held = torch.stack([load_image_source(picture, channels, size) for picture in self.pictures])
        return [held, *self.param.start(rng[len(held) :], channels, size)]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin the free ones from given images."""
        size = (images.shape[2], images.shape[3])
        held = torch.stack([load_image_source(picture, images.shape[1], size) for picture in self.pictures])
        return [held, *self.param.fit(images[len(held) :])]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Put both one after the other."""
        return torch.cat([leaves[0].detach(), self.param.images(leaves[1:], size)])


def sized(param: Param | Spatial, size: Size | None, batch: int) -> Param:
    """Return a param with another size and batch.

    Args:
        param: A param, or the spatial part of one.
        size: Height and width in px; `None` to keep the param's own.
        batch: Number of images per objective; 1 to keep the param's own.

    >>> sized(Fourier(), (64, 96), 2).size
    (64, 96)
    """
    if isinstance(param, Image):
        return replace(param, size=size or param.size, batch=batch if batch != 1 else param.batch)
    if isinstance(param, Spatial):
        return Image(size, batch, param)
    if isinstance(param, Wrapper):
        return replace(param, param=sized(param.param, size, batch))  # type: ignore[type-var]
    return param
