"""Params around another: with an alpha channel, free in one region only, or beside pictures that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.color import Plain
from featviz.errors import SettingError
from featviz.param.fourier import Fourier
from featviz.param.image import Image
from featviz.picture import Picture, as_mask, as_picture, read_picture
from featviz.protocols import Leaves, Size, Spatial
from featviz.random import Generators


@dataclass(frozen=True)
class Alpha:
    """A picture with an alpha channel: what does not matter to the objective becomes transparent.

    It is seen over noise that it cannot foresee (`transforms.Collapse`). Subtract `opacity` to keep it small.

    Args:
        image: how colour is held; the alpha channel is held the same way.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Semi-Transparent Patterns".
    """

    image: Image = Image()

    @property
    def size(self) -> Size | None:
        """Height and width in px; `None` means the network's own."""
        return self.image.size

    @property
    def batch(self) -> int:
        """Pictures of each objective."""
        return self.image.batch

    @property
    def couples(self) -> bool:
        """Whether the pictures of a batch depend on each other."""
        return self.image.couples

    @property
    def scales(self) -> bool:
        """Whether the same leaves can be drawn at any size."""
        return self.image.scales

    @property
    def near(self) -> bool:
        """Whether it wants to be seen from close by."""
        return self.image.near

    @property
    def _opacity(self) -> Spatial:
        """How the alpha channel is held: as colour is, but without what is known of colours."""
        known = getattr(self.image.spatial, "prior", None) is not None
        return Fourier() if known else self.image.spatial

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw colour and alpha of each image, half opaque."""
        return [*self._opacity.start(rng, 1, size), *self.image.start(rng, channels, size)]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images, opaque."""
        opaque = Plain().canvas(torch.ones_like(images[:, :1]))
        return [*self._opacity.fit(opaque), *self.image.fit(images)]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn leaves into images in [0, 1], alpha last."""
        count = 1 if self._opacity != self.image.spatial else len(leaves) // 2
        alpha = self._opacity.canvas(leaves[:count], size)
        return torch.cat([self.image.images(leaves[count:], size), alpha.sigmoid()], 1)


@dataclass(frozen=True)
class Masked:
    """A given picture of which only a region changes: render with `start=` that picture.

    Args:
        mask: a file, or (1, h, w) or (h, w) in [0, 1]; 1 is free, 0 stays. Cut and resized to the picture's shape.
        image: how what is free is held.

    Raises:
        SettingError: the mask is no picture of one channel; or, at `start`, there is no picture to begin from.
    """

    mask: Picture
    image: Image = Image()

    def __post_init__(self) -> None:
        """Take paths and tensors, too."""
        object.__setattr__(self, "mask", as_mask(self.mask))

    @property
    def size(self) -> Size | None:
        """Height and width in px; `None` means the network's own."""
        return self.image.size

    @property
    def batch(self) -> int:
        """Pictures of each objective."""
        return self.image.batch

    @property
    def couples(self) -> bool:
        """Whether the pictures of a batch depend on each other."""
        return self.image.couples

    @property
    def near(self) -> bool:
        """Whether it wants to be seen from close by."""
        return self.image.near

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Refuse: noise is no picture."""
        raise SettingError("Masked keeps a picture outside of its mask; give one to begin from: start=, or --start")

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images; these and the mask are held."""
        size = (images.shape[2], images.shape[3])
        mask = read_picture(self.mask, 1, size).to(images).expand(len(images), -1, -1, -1).clone()
        return [*self.image.fit(images), images.clone(), mask]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Lay the free region over the given pictures."""
        *free, given, mask = leaves
        return torch.lerp(given.detach(), self.image.images(free, size), mask.detach())


@dataclass(frozen=True)
class Stack:
    """Pictures that stay as they are, and free ones after them: to be compared within one batch.

    Args:
        pictures: files, or (channels, h, w) in [0, 1]; their middles are cut to the shape of the free ones.
        image: how the free ones are held; its batch is how many there are.

    Raises:
        SettingError: there is none.

    Source: captum, captum/optim/_param/image/images.py, `StackImage`.
    """

    pictures: tuple[Picture, ...]
    image: Image = Image()
    couples = True

    def __post_init__(self) -> None:
        """Take paths and tensors, too."""
        object.__setattr__(self, "pictures", tuple(as_picture(picture) for picture in self.pictures))
        if not self.pictures:
            raise SettingError("a stack needs a picture that stays; without one, use param.image(batch=...)")

    @property
    def size(self) -> Size | None:
        """Height and width in px; `None` means the network's own."""
        return self.image.size

    @property
    def batch(self) -> int:
        """Pictures in all."""
        return len(self.pictures) + self.image.batch

    @property
    def near(self) -> bool:
        """Whether it wants to be seen from close by."""
        return self.image.near

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a beginning for each free image; the others are held."""
        held = torch.stack([read_picture(picture, channels, size) for picture in self.pictures])
        return [held, *self.image.start(rng[len(held) :], channels, size)]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin the free ones from given images."""
        size = (images.shape[2], images.shape[3])
        held = torch.stack([read_picture(picture, images.shape[1], size) for picture in self.pictures])
        return [held, *self.image.fit(images[len(held) :])]

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Put both one after the other."""
        return torch.cat([leaves[0].detach(), self.image.images(leaves[1:], size)])
