"""Find channels and positions in outputs of networks on signals, volumes or video: positions grow with the input."""

from __future__ import annotations

import math

from featviz.interfaces import Shape
from featviz.network.layout import Layout
from featviz.network.probing.passes import CallIndex, Passes, defined_channel

MATRIX = "all dimensions of its output grow with the input, as those of attention weights do"


def axis_layout(passes: Passes, call: CallIndex, shape: Shape, before: dict[CallIndex, Layout]) -> Layout | str:
    """Return the layout of an output of three or more dimensions, or why it has none.

    - Dimensions that grow with the input are positions. If all others but one grow, that one is the channels.
    - Otherwise the channels are those that the kind of the module defines, as of a linear layer; else those of the last
      output before it with the same shape, as for an activation function; else the first that does not grow.
    - Of several inputs, an output has as many axes as its shape has, since it may belong to any of them.

    Args:
        passes: The passes over the network at two sizes.
        call: Which output.
        shape: Its shape in the first pass, batch first.
        before: Layouts of the outputs before it.
    """
    axes = len(shape) - 2 if passes.specs else len(passes.spec.size)
    growing = passes.growing(call)
    rest = [dim for dim in range(1, len(shape)) if dim not in growing]
    if not rest:
        return MATRIX
    if growing and len(rest) == 1:
        channel = rest[0]
    else:
        known = defined_channel(passes.parts[call[0]], shape) or _inherit(passes, shape, before)
        channel = known if known in rest else rest[0]
    is_tokens = (
        not passes.specs
        and axes > 1
        and len(shape) == 3
        and bool(growing)
        and _grows_as_product(passes, call, growing[0])
    )
    return Layout("tokens" if is_tokens else "map", channel, axes=axes)


def _inherit(passes: Passes, shape: Shape, before: dict[CallIndex, Layout]) -> int:
    """Return the channel dimension of another output with this shape; 0 if none is known.

    It is the last output before this one, or the first one after it of a module whose kind defines the dimension.
    """
    same = [layout.channel for call, layout in before.items() if passes.shapes_of(call)[0] == shape]
    if same:
        return same[-1]
    later = (call for call in passes.first.shapes if call not in before and passes.shapes_of(call)[0] == shape)
    return next((dim for call in later if (dim := defined_channel(passes.parts[call[0]], shape))), 0)


def _grows_as_product(passes: Passes, call: CallIndex, dim: int) -> bool:
    """Whether a dimension grows as the number of positions in the input does, rather than as one of its axes."""
    shape, other = passes.shapes_of(call)
    assert shape is not None
    assert other is not None
    ratios = [math.log(new / old) for new, old in zip(passes.larger, passes.spec.size, strict=True)]
    own = math.log(other[dim] / shape[dim])
    return abs(own - sum(ratios)) < min(abs(own - ratio) for ratio in ratios)


def axis_stride(passes: Passes, length: int, other: int | None, axis: int = -1) -> int:
    """Return the distance in px of neighbouring positions along an axis; 0 where there is one position only.

    Args:
        passes: The passes over the network at two sizes.
        length: Length of the map along the axis in the first pass.
        other: Length of the map along the axis in the second pass; `None` if it was refused.
        axis: Index of the axis.
    """
    side, larger = passes.spec.size[axis], passes.larger[axis]
    if length == 1:
        return 0
    if other is not None and other != length:
        return round((larger - side) / (other - length))
    return round(side / length)
