"""The transforms of several inputs as one, which takes and returns packed images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Shape, Size, Transform, Transforms, show_size
from featviz.network.inputs.packing import join, split
from featviz.random import Generators
from featviz.transforms.fusing import apply_draws, fuse, new_draws
from featviz.transforms.geometry import Resize

Fused = tuple[Transform, ...]
"""Fused transforms of one input."""


@dataclass(frozen=True)
class InputTransforms:
    """Transforms for each of several inputs of a network. `fv.render` makes it from a dict of transforms.

    Args:
        parts: Name, transforms, channels and length of each axis of the images, and length of each axis of what the
            network gets, of each input in the order of the network. Views of another size are resized to it.

    Raises:
        SettingError: Transforms draw the size of a view, or change the number of channels.
    """

    parts: tuple[tuple[str, Transforms, Shape, Size], ...]
    _fused: tuple[Fused, ...] = field(init=False, repr=False, compare=False)
    _shapes: tuple[tuple[Shape, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fuse the transforms, and run them once to find the shapes that each gets."""
        made = [_prepare(*part) for part in self.parts]
        object.__setattr__(self, "_fused", tuple(fused for fused, _ in made))
        object.__setattr__(self, "_shapes", tuple(shapes for _, shapes in made))

    @property
    def without_transforms(self) -> InputTransforms:
        """The same inputs without transforms; their images are resized to the input size."""
        return InputTransforms(tuple((name, (), shape, size) for name, _, shape, size in self.parts))

    def draw(self, rng: Generators, shape: Shape) -> list[list[Any]]:
        """Draw the random numbers of each transform of each input."""
        pairs = zip(self._fused, self._shapes, strict=True)
        return [[step.draw(rng, own) for step, own in zip(fused, shapes, strict=True)] for fused, shapes in pairs]

    def apply(self, images: Float[Tensor, "n 1 length"], draw: list[list[Any]]) -> Float[Tensor, "n 1 length2"]:
        """Transform the images of each input."""
        views, several = [], split(images, {name: shape for name, _, shape, _ in self.parts})
        for each, fused, drawn in zip(several.values(), self._fused, draw, strict=True):
            draws = iter(drawn)
            views.append(apply_draws(each, fused, lambda *_, draws=draws: next(draws))[0])  # type: ignore[misc]
        return join(views)


def _prepare(name: str, transforms: Transforms, shape: Shape, size: Size) -> tuple[Fused, tuple[Shape, ...]]:
    """Return fused transforms that end at the size that the network gets, and the shape that each of them takes.

    Raises:
        SettingError: The shapes differ from draw to draw, or the views have other channels than the images.
    """
    fused = fuse(transforms)
    runs = [_shapes(fused, shape, seed) for seed in range(2)]
    if runs[0] != runs[1]:
        raise SettingError(
            f"transforms of the input {name!r} must give views of one size, where several inputs are optimised; leave "
            "out the one that draws the size"
        )
    *shapes, last = runs[0]
    if last[0] != shape[0]:
        raise SettingError(f"transforms of the input {name!r} must keep its {shape[0]} channels, got {last[0]}")
    if last[1:] != size:
        fused = fuse((*transforms, Resize(size)))
        *shapes, last = _shapes(fused, shape, 0)
    if last[1:] != size:
        given = show_size(last[1:])
        raise SettingError(f"transforms of the input {name!r} must give views of {show_size(size)} px, got {given} px")
    return fused, tuple(shapes)


def _shapes(fused: Fused, shape: Shape, seed: int) -> list[Shape]:
    """Return the shape that each transform gets, and that of the views."""
    draw, shapes = new_draws(Generators([seed])), list[Shape]()

    def noted(transform: Transform, given: Shape) -> Any:
        shapes.append(given)
        return draw(transform, given)

    with torch.no_grad():
        views, _ = apply_draws(torch.full((1, *shape), 0.5), fused, noted)
    return [*shapes, tuple(views.shape[1:])]
