"""The params of several inputs as one, whose images are packed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_kind
from featviz.errors import SettingError
from featviz.interfaces import Leaves, Param, ParamTraits, Shape, Size, param_traits_of
from featviz.network.inputs.packing import join
from featviz.random import Generators


@dataclass(frozen=True)
class InputParams:
    """A param for each of several inputs of a network. `fv.render` makes it from a dict of params.

    Args:
        parts: Name, param, and channels and length of each axis of each input, in the order of the network.
        batch: Number of images per objective.

    Raises:
        SettingError: A part holds no param.
    """

    parts: tuple[tuple[str, Param, Shape], ...]
    batch: int = 1

    def __post_init__(self) -> None:
        """Check the params."""
        for name, param, _ in self.parts:
            check_kind(f"param of the input {name!r}", param, Param, "use e.g. param.Image()")

    @property
    def size(self) -> Size:
        """Length of the packed images."""
        return (sum(math.prod(shape) for _, _, shape in self.parts),)

    @property
    def traits(self) -> ParamTraits:
        """The batch is coupled where that of an input is."""
        each = [param_traits_of(param) for _, param, _ in self.parts]
        return ParamTraits(
            couples_batch=any(traits.couples_batch for traits in each), pixels=all(traits.pixels for traits in each)
        )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Channels and length of each axis of the images of each input, by name."""
        return {name: shape for name, _, shape in self.parts}

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the initial tensors of each image, of one input after another."""
        return [leaf for _, param, (own, *sides) in self.parts for leaf in param.start(rng, own, tuple(sides))]

    def fit(self, images: Float[Tensor, "n 1 length"]) -> Leaves:
        """Refuse: several inputs start from noise.

        Raises:
            SettingError: Always.
        """
        raise SettingError("several inputs start from noise; leave out start")

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n 1 length"]:
        """Compute the packed images in [0, 1], differentiably.

        Raises:
            SettingError: The images of a param do not have the channels or the size of its input.
        """
        images, position = [], 0
        for (name, param, shape), count in zip(self.parts, self._counts, strict=True):
            images.append(param.images(leaves[position : position + count], tuple(shape[1:])))
            position += count
            if tuple(images[-1].shape[1:]) != shape:
                raise SettingError(
                    f"param of the input {name!r} must give images of shape {shape}, got "
                    f"{tuple(images[-1].shape[1:])}; with several inputs none can have an alpha channel"
                )
        return join(images)

    def unchanged(self, before: Leaves, after: Leaves) -> tuple[str, ...]:
        """Return the names of the inputs whose tensors are the same as before."""
        found, position = [], 0
        for (name, *_), count in zip(self.parts, self._counts, strict=True):
            some = slice(position, position + count)
            if all(torch.equal(old, new) for old, new in zip(before[some], after[some], strict=True)):
                found.append(name)
            position += count
        return tuple(found)

    @cached_property
    def _counts(self) -> list[int]:
        """Number of leaf tensors of each param."""
        return [
            len(param.start(Generators(range(param.batch)), channels, tuple(sides)))
            for _, param, (channels, *sides) in self.parts
        ]
