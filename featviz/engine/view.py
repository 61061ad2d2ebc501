"""Network input made from the images: transforms, and tiles of large views."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from featviz.engine.tiles import Tile, tile_size, tiles
from featviz.errors import ModelError, RenderError, SettingError
from featviz.interfaces import ObjectiveLike, Size, Transform, Transforms, show_size, traits_of, transform_traits_of
from featviz.network import Network
from featviz.network.activations import MoveMasks
from featviz.network.out_of_memory import is_out_of_memory
from featviz.random import Generators
from featviz.transforms import CompositeAlpha, Resize, apply_transforms, fuse
from featviz.transforms.fusing import DrawFunction, apply_draws


@dataclass(frozen=True)
class View:
    """How images become the input of the network.

    Args:
        transforms: The fused transforms. The last one resizes to the network's size where it accepts no other.
        size: Length of each axis of the views in px, as height and width.
        tile: Length of each axis of a tile in px; that of the views where there is one tile.
    """

    transforms: tuple[Transform, ...]
    size: Size
    tile: Size

    @classmethod
    def prepare(
        cls,
        transforms: Transforms,
        network: Network,
        images: Float[Tensor, "n c *size"],
        max_tile: int | None,
        layers: Collection[str] = (),
    ) -> View:
        """Fuse the transforms, complete them, and check that the network accepts the views.

        Args:
            transforms: As the user gave them.
            network: The network.
            images: The images at the start, of which the first is transformed once to find the size of the views.
            max_tile: Largest side of a tile in px; `None` for no tiles.
            layers: Layers up to which the network runs; empty for the whole network.

        Raises:
            SettingError: The views do not have the network's channels.
            ModelError: The network does not accept views of this size.
        """
        has_alpha = images.shape[1] == network.channels + 1
        if has_alpha and not any(transform_traits_of(each).consumes_alpha for each in transforms):
            transforms = (CompositeAlpha(), *transforms)
        fused = fuse(transforms)
        sample = _sample_view(images[:1], fused)
        if sample.shape[1] != network.channels:
            got = f"the network expects {network.channels} channels, the views have {sample.shape[1]}"
            if sample.shape[1] < images.shape[1]:
                raise SettingError(f"{got}; CompositeAlpha() removes a channel and needs param.Alpha(), --param alpha")
            raise SettingError(f"{got}; give a param and transforms for {network.channels} channels")
        size = size_of(sample)
        is_smaller = any(side < own for side, own in zip(size, network.size, strict=True))
        if network.fixed_size and (max_tile is None or is_smaller):
            fused = fused if size == network.size else fuse((*transforms, Resize(network.size)))
            return cls(fused, network.size, network.size)
        tile = network.size if network.fixed_size and max_tile else tile_size(size, max_tile)
        if tile == network.size:
            return cls(fused, size, tile)
        try:
            network.check_size(tile, layers)
        except ModelError:
            own = size_of(images)
            if tile != size or size == own:
                raise
            # The view is too small for the network, but the image is large enough: enlarge the view to its size.
            network.check_size(own, layers)
            return cls(fuse((*transforms, Resize(own))), own, own)
        return cls(fused, size, tile)

    @cached_property
    def tiles(self) -> Sequence[Tile]:
        """The tiles of a view of the usual size."""
        return tiles(self.size, self.tile)

    def tiles_of(self, views: Float[Tensor, "n c *size"]) -> Sequence[Tile]:
        """Return the tiles of views, which are larger or smaller than usual where transforms draw their size."""
        size = size_of(views)
        return self.tiles if len(self.tiles) == 1 or size == self.size else tiles(size, self.tile)

    def check(self, objective: ObjectiveLike) -> None:
        """Check that an objective can be scored on this view.

        Raises:
            SettingError: The objective needs the full view, and the view is cut into tiles.
        """
        if len(self.tiles) > 1 and traits_of(objective).needs_full_view:
            cut = f"a view of {show_size(self.size)} px is cut into tiles of {show_size(self.tile)}"
            raise SettingError(f"{objective} needs the full view, but {cut}; use a smaller image or larger tiles")

    def transformed(
        self, images: Float[Tensor, "n c *size"], draw: DrawFunction
    ) -> tuple[Float[Tensor, "n c2 *size2"], MoveMasks]:
        """Return the images transformed.

        Args:
            images: In [0, 1].
            draw: Returns the random draws of each transform in turn, given the shape of the images that it gets.

        Returns:
            The views, and a function that moves masks as the images were moved.
        """
        return apply_draws(images, self.transforms, draw)


def size_of(images: Tensor) -> Size:
    """Return the length of each axis of images, `(n, c, *size)`, in px: height and width."""
    return tuple(images.shape[2:])


def _sample_view(images: Float[Tensor, "1 c *size"], transforms: Sequence[Transform]) -> Float[Tensor, "1 c2 *size2"]:
    """Transform one image.

    Raises:
        RenderError: The view does not fit in memory.
    """
    try:
        return apply_transforms(images, transforms, Generators([0]))[0]
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RenderError("out of memory with these transforms; make the views smaller") from error
        raise
