"""Fuse the geometric transforms of a sequence into resamplings, and apply the sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Geometric, MovesMasks, Padding, Shape, Transform, Transforms, transform_traits_of
from featviz.network.activations import MoveMasks
from featviz.random import Generators
from featviz.transforms.module import ModuleTransform
from featviz.transforms.resampling import Warp

DrawFunction = Callable[[Transform, Shape], Any]
"""Returns the random draws of a transform, given the channels, height and width in px of the images that it gets."""

Moves = list[tuple[Callable[[Tensor, Any], Tensor], Any]]
"""The method `move` of each transform that moves masks, and its draws."""


def fuse(stack: Transforms) -> tuple[Transform, ...]:
    """Fuse neighbouring geometric transforms into one resampling, and wrap modules of other libraries.

    A padding transform starts a new resampling: an affine map does not record that an earlier transform cropped the
    image, so cropped pixels would show instead of the padding. Pointwise transforms between two geometric ones are
    applied after both, which gives the same result for linear changes, because bilinear weights add up to 1.

    Args:
        stack: Transforms and modules in the order in which they apply.

    Returns:
        The same sequence as objects with `draw` and `apply`.

    >>> from featviz.transforms import LUCID, STANDARD, Rotate
    >>> len(fuse(LUCID)), len(fuse((*STANDARD, Rotate(5))))
    (1, 2)
    """
    fused: list[Transform] = []
    for step in stack:
        if isinstance(step, Transform):
            fused.append(step)
        elif not isinstance(step, Geometric):
            fused.append(ModuleTransform(step))
        elif isinstance(step, Padding):
            fused.append(Warp((step,)))
        else:
            end = len(fused)  # insert before the pointwise transforms at the end
            while end and transform_traits_of(fused[end - 1]).pointwise:
                end -= 1
            before = fused[end - 1] if end else None
            if isinstance(before, Warp):
                fused[end - 1] = Warp((*before.steps, step))
            else:
                fused.insert(end, Warp((step,)))
    return tuple(fused)


def apply_transforms(
    images: Float[Tensor, "n c *size"], stack: Sequence[Transform], rng: Generators
) -> tuple[Float[Tensor, "n c2 *size2"], MoveMasks]:
    """Apply fused transforms once, with new random draws.

    Args:
        images: Images in [0, 1].
        stack: The result of `fuse`.
        rng: Random numbers, one generator per image.

    Returns:
        The views, and a function that moves masks as the images were moved.
    """
    return apply_draws(images, stack, new_draws(rng))


def new_draws(rng: Generators) -> DrawFunction:
    """Return a function that makes new draws of each transform.

    Args:
        rng: Random numbers, one generator per image.
    """
    return lambda transform, shape: transform.draw(rng, shape)


def apply_draws(
    images: Float[Tensor, "n c *size"], stack: Sequence[Transform], draw: DrawFunction
) -> tuple[Float[Tensor, "n c2 *size2"], MoveMasks]:
    """Apply fused transforms once.

    Args:
        images: Images in [0, 1].
        stack: The result of `fuse`.
        draw: Returns the random draws of each transform in turn, given the shape of the images that it will get.

    Returns:
        The views, and a function that moves masks as the images were moved.

    Raises:
        SettingError: A transform returns another number of images.
    """
    moves: Moves = []
    images = images.view_as(images)  # another tensor even without transforms, so that views have their own gradient
    for transform in stack:
        drawn = draw(transform, tuple(images.shape[1:]))
        count, images = len(images), transform.apply(images, drawn)
        if len(images) != count:
            raise SettingError(f"{transform} must return as many images as it gets, {count}, got {len(images)}")
        if isinstance(transform, MovesMasks):
            moves.append((transform.move, drawn))
    return images, partial(_move_masks, moves)


def _move_masks(moves: Moves, masks: Tensor) -> Tensor:
    for move, drawn in moves:
        masks = move(masks, drawn)
    return masks
