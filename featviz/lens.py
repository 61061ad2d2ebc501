"""How the network looks at pictures: through the transforms, and in tiles where a view is large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from featviz.activations import Moved
from featviz.errors import ModelError, SettingError
from featviz.network import Network
from featviz.protocols import Scorer, Size, Transform, Transforms
from featviz.random import Generators
from featviz.tiles import Tile, tile_size, tiles
from featviz.transforms import Collapse, Resize, fuse, look


@dataclass(frozen=True)
class Lens:
    """How the network looks at pictures.

    Args:
        stack: the transforms, neighbours fused, beginning and ending with what fits the network.
        view: height and width in px of what they give.
        tile: of the pieces in which the network sees it; often the view itself.
    """

    stack: tuple[Transform, ...]
    view: Size
    tile: Size

    @classmethod
    def of(
        cls, transforms: Transforms, network: Network, canvas: Float[Tensor, "n c h w"], largest: int | None
    ) -> Lens:
        """Fuse the stack, and make sure that the network takes what comes out of it.

        Args:
            transforms: as they were given.
            network: what will look.
            canvas: the pictures as they begin.
            largest: side in px of the tiles; `None` means that there are none.
        """
        if canvas.shape[1] == network.channels + 1 and not any(isinstance(step, Collapse) for step in transforms):
            transforms = (Collapse(), *transforms)
        stack = fuse(transforms)
        view, _ = look(canvas[:1], stack, Generators([0]))
        if view.shape[1] != network.channels:
            seen = f"the network takes {network.channels} channels and would see {view.shape[1]}"
            if canvas.shape[1] > network.channels:
                raise SettingError(f"{seen}; Collapse takes one away, and wants param.Alpha(), or --param alpha")
            raise SettingError(f"{seen}; give a param and transforms for {network.channels}")
        sides = sides_of(view)
        if network.fixed_size and (largest is None or sides[0] < network.size[0] or sides[1] < network.size[1]):
            stack = stack if sides == network.size else fuse((*transforms, Resize(network.size)))
            return cls(stack, network.size, network.size)
        tile = tile_size(sides, network.size if network.fixed_size and largest else largest)
        if tile == network.size:
            return cls(stack, sides, tile)
        try:
            network.check_size(tile)
        except ModelError:
            own = sides_of(canvas)
            if tile != sides or sides == own:
                raise
            network.check_size(own)  # a view too small of a picture that is large enough is seen as large as that
            return cls(fuse((*transforms, Resize(own))), own, own)
        return cls(stack, sides, tile)

    @cached_property
    def tiles(self) -> Sequence[Tile]:
        """The pieces in which the network sees a view."""
        return tiles(self.view, self.tile)

    def check(self, objective: Scorer) -> None:
        """Make sure that an objective can be asked about what is seen through it."""
        if len(self.tiles) > 1 and getattr(objective, "whole", False):
            seen = f"a view of {self.view[0]} x {self.view[1]} px is seen in tiles of {self.tile[0]} x {self.tile[1]}"
            raise SettingError(
                f"{objective} is about the view as a whole, and {seen}; give a smaller picture or larger tiles"
            )

    def look(self, images: Float[Tensor, "n c h w"], rng: Generators) -> tuple[Float[Tensor, "n c2 h2 w2"], Moved]:
        """See the images as the transforms show them this time, and how these moved them."""
        return look(images, self.stack, rng)


def sides_of(images: Tensor) -> Size:
    """Return the height and width of images in px."""
    return images.shape[-2], images.shape[-1]
