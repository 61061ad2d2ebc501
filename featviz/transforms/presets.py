"""Stacks of transforms that are known to work, and how a stack runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Geometric, MovesMasks, Padding, Transform, Transforms, transform_traits_of
from featviz.network.activations import MoveMasks
from featviz.random import Generators
from featviz.transforms.color import ColorShift
from featviz.transforms.distributions import LogUniform, OneOf
from featviz.transforms.geometry import Jitter, Pad, Resize, Rotate, Scale, Shift
from featviz.transforms.module import ModuleTransform
from featviz.transforms.resampling import Warp

LUCID: Transforms = (
    Pad(12),
    Jitter(8),
    Scale(OneOf(tuple(1 + (i - 5) / 50 for i in range(11)))),
    Rotate(OneOf((*range(-10, 11), 0, 0, 0, 0, 0))),
    Jitter(4),
)
"""The reference stack.

Source: Lucid, lucid/optvis/transform.py, `standard_transforms`.
"""

STANDARD: Transforms = (Shift(0.2), Rotate(15), Scale(LogUniform(0.6, 2.0)), Resize(0.57, least=112), ColorShift(0.3))
"""The default: views from far and near in changing colours, so that a picture has to hold in all of them.

Those of large pictures are about half as wide, which shows the network whole things, and costs a third.

Source: measured; docs/quality.md has what else was tried.
"""

NEAR: Transforms = (Shift(0.05),)
"""The default of what would become one flat colour in wider views, as `param.CPPN` would."""

NONE: Transforms = ()
"""Look at the picture as it is."""


def fuse(stack: Transforms) -> tuple[Transform, ...]:
    """Fuse neighbouring geometric transforms into one resampling, and wrap modules of other libraries.

    A padding transform starts a new resampling, because what it fills with must not be resampled away. Pointwise
    transforms between two geometric ones are applied after both, which gives the same result.

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
            end = len(fused)
            while end and transform_traits_of(fused[end - 1]).pointwise:
                end -= 1
            before = fused[end - 1] if end else None
            if isinstance(before, Warp):
                fused[end - 1] = Warp((*before.steps, step))
            else:
                fused.insert(end, Warp((step,)))
    return tuple(fused)


def look(
    images: Float[Tensor, "n c h w"], stack: Sequence[Transform], rng: Generators
) -> tuple[Float[Tensor, "n c2 h2 w2"], MoveMasks]:
    """Apply fused transforms once, with new random draws.

    Returns:
        The views, and a function that moves masks as the images were moved.
    """
    moves: list[tuple[Callable[[Tensor, Any], Tensor], Any]] = []
    images = images.view_as(images)  # without transforms, views still need a gradient of their own
    for transform in stack:
        draw = transform.draw(rng, (images.shape[1], images.shape[2], images.shape[3]))
        images = transform.apply(images, draw)
        if isinstance(transform, MovesMasks):
            moves.append((transform.move, draw))

    def move_masks(masks: Tensor) -> Tensor:
        for move, draw in moves:
            masks = move(masks, draw)
        return masks

    return images, move_masks
