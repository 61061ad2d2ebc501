"""Tell the dimensions of the outputs of a network that reads sequences: positions are those that grow with the text."""

from __future__ import annotations

from dataclasses import replace

from featviz.interfaces import Shape
from featviz.network.layout import Layout
from featviz.network.probing.passes import CallIndex, Passes, defined_channel
from featviz.network.probing.special_tokens import read_token

MATRIX = "its output is a matrix of tokens by tokens, as attention weights are"
HEADS = "its output has one dimension of positions and two others, as heads and their channels"
"""Why outputs cannot be addressed."""


def sequence_layout(passes: Passes, call: CallIndex, shape: Shape) -> Layout | str | None:
    """Return the layout of an output of 3 or 4 dimensions, why it has none, or `None` if the lengths are ambiguous.

    - (n, length, channels) are tokens, one for each of the text, so that `@0,3` is the one with index 3.
    - (n, channels, length), and a length that differs from that of the text, are feature maps of one row.

    Args:
        passes: Both passes over the network, at different lengths.
        call: Which output.
        shape: Its shape in the first pass, batch first.
    """
    positions = _positions(passes, call, shape)
    if len(positions) > 1:
        return MATRIX
    if len(shape) == 4:
        return _map(positions[0], shape) if positions else None
    if not positions:  # as many vectors, whatever the length is
        channel = defined_channel(passes.parts[call[0]], shape) or 2
        return Layout("tokens", channel)
    dim = positions[0]
    _, other = passes.shapes_of(call)
    lengths = (passes.spec.size[1], passes.larger[1])
    is_aligned = shape[dim] == lengths[0] and (not other or other[dim] == lengths[1])
    if is_aligned and dim == 1:
        return Layout("tokens", 2, patch=(1, 1))
    # Further tokens, such as prompts that the network adds, have unknown positions.
    return Layout("tokens" if shape[dim] > lengths[0] else "map", 3 - dim)


def _positions(passes: Passes, call: CallIndex, shape: Shape) -> list[int]:
    """Return the dimensions of positions: those that grow, or where nothing grew those as long as the text."""
    _, other = passes.shapes_of(call)
    if other and not passes.fixed_size:
        return passes.growing(call)
    known = defined_channel(passes.parts[call[0]], shape)
    long = [dim for dim in range(1, len(shape)) if shape[dim] == passes.spec.size[1] and dim != known]
    return long[:1] if len(shape) == 3 else long


def _map(dim: int, shape: Shape) -> Layout | str:
    """Return the layout of an output of 4 dimensions, of which one grows and one has length 1."""
    rest = [other for other in (1, 2, 3) if other != dim]
    single = [other for other in reversed(rest) if shape[other] == 1]
    if not single:
        return HEADS
    (channel,) = (other for other in rest if other != single[0])
    return Layout("map", channel, transposed=dim < single[0])


def name_class_token(passes: Passes, layouts: dict[CallIndex, Layout]) -> None:
    """Name the first or last token `@cls` where the network's output reads it much more than all others.

    Args:
        passes: Runs the network.
        layouts: Layouts of its outputs, to which the name is added.
    """
    aligned = [call for call, layout in layouts.items() if layout.kind == "tokens" and layout.patch]
    found = read_token(passes, aligned[-1], 1, [0, -1]) if aligned and passes.spec.size[1] > 2 else []
    for call in aligned if found else []:
        layouts[call] = replace(layouts[call], special=(("cls", found[0]),))
