"""Default sequences of transforms, and how a sequence is fused and applied."""

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
"""The default transforms of Lucid.

Source: Lucid, lucid/optvis/transform.py, `standard_transforms`.
"""

STANDARD: Transforms = (
    Shift(0.2),
    Rotate(15),
    Scale(LogUniform(0.6, 2.0)),
    Resize(0.57, min_side=112),
    ColorShift(0.3),
)
"""The default transforms: views from far and near in changing colours, for images that are robust to all of them.

Views have 0.57 times the sides of the image, at least 112 px: the network sees whole objects, at a third of the cost.

Source: measured; docs/quality.md compares the alternatives.
"""

NEAR: Transforms = (Shift(0.05),)
"""The default transforms of params that views from far away would drive to one flat colour, such as `param.CPPN`."""

NONE: Transforms = ()
"""No transforms: the network sees the image as it is."""


def fuse(stack: Transforms) -> tuple[Transform, ...]:
    """Fuse neighbouring geometric transforms into one resampling, and wrap modules of other libraries.

    A padding transform starts a new resampling: a map cannot say that an earlier transform has cropped what is outside,
    so cropped pixels would show instead of the padding. Pointwise transforms between two geometric ones are applied
    after both, which gives the same result for linear changes, because bilinear weights add up to 1.

    Args:
        stack: Transforms and modules in the order in which they apply.

    Returns:
        The same sequence as objects with `draw` and `apply`.

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


def look(
    images: Float[Tensor, "n c h w"], stack: Sequence[Transform], rng: Generators
) -> tuple[Float[Tensor, "n c2 h2 w2"], MoveMasks]:
    """Apply fused transforms once, with new random draws.

    Args:
        images: Images in [0, 1].
        stack: The result of `fuse`.
        rng: Random numbers, one generator per image.

    Returns:
        The views, and a function that moves masks as the images were moved.
    """
    moves: list[tuple[Callable[[Tensor, Any], Tensor], Any]] = []
    images = images.view_as(images)  # another tensor even without transforms, so that views have their own gradient
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
