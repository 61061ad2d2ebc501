"""Stacks of transforms that are known to work, and how a stack runs."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from featviz.protocols import Geometric, Transform, Transforms
from featviz.random import Generators
from featviz.transforms.geometry import Jitter, Pad, Rotate, Scale, Shift, Warp
from featviz.transforms.spread import LogUniform, OneOf
from featviz.transforms.tone import Tint

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

STANDARD: Transforms = (Shift(0.3), Rotate(20), Scale(LogUniform(0.6, 3.0)), Tint(0.4))
"""The default: views from far and near in changing colours, so that a picture has to hold in all of them."""


NONE: Transforms = ()
"""Look at the picture as it is."""


def fuse(stack: Transforms) -> tuple[Transform, ...]:
    """Make neighbouring geometric transforms one resampling; a pad begins a new one, because it fills.

    >>> len(fuse(LUCID))
    1
    """
    fused: list[Transform] = []
    for step in stack:
        if not isinstance(step, Geometric):
            fused.append(step)
        elif fused and isinstance(fused[-1], Warp) and not isinstance(step, Pad):
            fused[-1] = Warp((*fused[-1].steps, step))
        else:
            fused.append(Warp((step,)))
    return tuple(fused)


def look(images: Float[Tensor, "n c h w"], stack: Sequence[Transform], rng: Generators) -> Float[Tensor, "n c h2 w2"]:
    """See the images through a fused stack, once."""
    for transform in stack:
        images = transform.apply(images, transform.draw(rng, (images.shape[1], images.shape[2], images.shape[3])))
    return images
