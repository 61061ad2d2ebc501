"""Stacks of transforms that are known to work, and how a stack runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.activations import Moved
from featviz.errors import SettingError
from featviz.protocols import Geometric, Transform, Transforms
from featviz.random import Generators
from featviz.transforms.foreign import Foreign
from featviz.transforms.geometry import Jitter, Pad, Resize, Rotate, Scale, Shift
from featviz.transforms.spread import LogUniform, OneOf
from featviz.transforms.tone import Tint
from featviz.transforms.warp import Warp, widens

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

STANDARD: Transforms = (Shift(0.2), Rotate(15), Scale(LogUniform(0.6, 2.0)), Resize(0.57, least=112), Tint(0.3))
"""The default: views from far and near in changing colours, so that a picture has to hold in all of them.

Those of large pictures are about half as wide, which shows the network whole things, and costs a third.

Source: measured; docs/quality.md has what else was tried.
"""

NEAR: Transforms = (Shift(0.05),)
"""The default of what would become one flat colour in wider views, as `param.CPPN` would."""

NONE: Transforms = ()
"""Look at the picture as it is."""


def fuse(stack: Transforms) -> tuple[Transform, ...]:
    """Make neighbouring geometric transforms one resampling; what fills begins a new one. Foreign ones are wrapped.

    What changes each colour alone and moves nothing may as well come after a resampling, so it parts no neighbours.

    >>> len(fuse(LUCID)), len(fuse((*STANDARD, Rotate(5))))
    (1, 2)
    """
    fused: list[Transform] = []
    for step in stack:
        if isinstance(step, Transform):
            fused.append(step)
        elif not isinstance(step, Geometric):
            fused.append(Foreign(step))
        elif widens(step):
            fused.append(Warp((step,)))
        else:
            end = len(fused)
            while end and isinstance(fused[end - 1], Tint):
                end -= 1
            before = fused[end - 1] if end else None
            if isinstance(before, Warp):
                fused[end - 1] = Warp((*before.steps, step))
            else:
                fused.insert(end, Warp((step,)))
    return tuple(fused)


def look(
    images: Float[Tensor, "n c h w"], stack: Sequence[Transform], rng: Generators
) -> tuple[Float[Tensor, "n c2 h2 w2"], Moved]:
    """See the images through a fused stack, once.

    Returns:
        The views, and a function that moves masks as the images were moved.
    """
    moves: list[tuple[Callable[[Tensor, Any], Tensor], Any]] = []
    images = images.view_as(images)  # so that views have a gradient apart from the pictures', also in an empty stack
    for transform in stack:
        draw = transform.draw(rng, (images.shape[1], images.shape[2], images.shape[3]))
        images = transform.apply(images, draw)
        if hasattr(transform, "move"):
            moves.append((transform.move, draw))

    def moved(masks: Tensor) -> Tensor:
        for transform in stack:
            if isinstance(transform, Foreign):
                raise SettingError(f"a mask cannot follow {type(transform.module).__name__}; use transforms of featviz")
        for move, draw in moves:
            masks = move(masks, draw)
        return masks

    return images, moved
