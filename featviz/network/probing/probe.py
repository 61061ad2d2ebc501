"""Find the layers of a network by running it: which dimension of an output is which, and where its positions lie."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from featviz.interfaces import Shape
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.layers import LayerRow, Probed
from featviz.network.layout import Layout
from featviz.network.probing.axis_layouts import axis_layout, axis_stride
from featviz.network.probing.passes import FIRST_BATCH, SECOND_BATCH, CallIndex, Passes, defined_channel, show
from featviz.network.probing.perturbation import Perturbation
from featviz.network.probing.sequences import HEADS, MATRIX, name_class_token, sequence_layout
from featviz.network.probing.special_tokens import name_special_tokens


def probe(module: nn.Module, spec: InputSpec, like: Tensor, longest: int | None = None) -> Probed:
    """Find the layers of a network and the meaning of the dimensions of their outputs.

    - The network runs on 2 images of its own size, then on 3 images of a larger size with another aspect ratio. The
      dimension of an output that goes from 2 to 3 is the batch, dimensions that grow with the size are positions, and
      the one that stays the same is the channels. Where the network accepts one size only, the second pass tells about
      the layers before the refusal.
    - Where there are tokens, or the dimensions are still unclear, it runs on perturbed images: see `token_grids`.
    - The parameters of class tokens and registers are perturbed, too, to find which token is which.

    Args:
        module: The network. It is not changed.
        spec: What it expects of its input.
        like: A weight, whose device and precision the input gets.
        longest: Number of tokens of the longest sequence, if the network reads sequences; `None` for images.

    Returns:
        The layer table and further properties of the network.
    """
    passes = Passes(module, spec, like, longest)
    layouts, refused = _layouts(passes)
    layers = {call: _layer(passes, call, layout) for call, layout in layouts.items()}
    last = {name: count - 1 for name, count in passes.first.counts.items()}
    # A module that reads a given input as well, as an encoder shared by two images, is captured at its last call on the
    # optimised one.
    last |= {name: call for name, call in passes.first.shapes if (name, call) not in passes.from_given}
    table = {
        name: replace(layers[name, call], calls=0 if name in passes.varying else call + 1)
        for name, call in last.items()
        if (name, call) in layers
    }
    numbered = {
        f"{name}#{call + 1}": replace(layer, name=f"{name}#{call + 1}", calls=1, call=call + 1)
        for (name, call), layer in layers.items()
        if passes.first.counts[name] > 1
    }
    reasons = {name: refused[name, call] for name, call in last.items() if (name, call) in refused}
    items = passes.first.items if len(passes.first.items) > 1 else {}
    vectors = {path: shape for path, shape in items.items() if shape[0] == FIRST_BATCH and len(shape) == 2}
    return Probed(
        table,
        passes.fixed_size,
        passes.memory_format,
        draws=passes.first.draws,
        calls=numbered,
        refused=reasons,
        outputs={
            f"output.{path}": LayerRow(f"output.{path}", Layout("vector"), shape[1:], item=path)
            for path, shape in vectors.items()
        },
        writes_weights=passes.writes_weights,
        checkpointed=passes.checkpointed,
        keeps_graph=passes.keeps_graph,
        unregistered=passes.unregistered,
    )


def _layouts(passes: Passes) -> tuple[dict[CallIndex, Layout], dict[CallIndex, str]]:
    """Return the layout of each output that can be addressed, and why the others cannot."""
    layouts: dict[CallIndex, Layout] = {}
    refused: dict[CallIndex, str] = {}
    unclear: dict[CallIndex, Shape] = {}
    for call in passes.first.shapes:
        shape, other = passes.shapes_of(call)
        if shape is None:
            refused[call] = passes.first.refused.get(call, "its output contains no tensor")
        elif not shape:
            refused[call] = "its output is one number for all images; return one per image"
        elif call in passes.from_given:
            refused[call] = "no gradient goes from it to the optimised input, as it reads given ones"
        elif shape[:1] != (FIRST_BATCH,) or (other and (other[0] != SECOND_BATCH or len(other) != len(shape))):
            if other and other[:1] == (SECOND_BATCH,) and shape[:1] == (FIRST_BATCH,):
                refused[call] = "the number of dimensions of its output depends on the size of the image"
            else:
                refused[call] = (
                    f"its output for {FIRST_BATCH} images is {show(shape)}, whose first dimension is not the "
                    "batch, as in window attention; use a layer around it"
                )
        elif len(shape) <= 2:
            layouts[call] = Layout("vector")
        elif len(passes.spec.size) != 2:
            given = axis_layout(passes, call, shape, layouts)
            if isinstance(given, Layout):
                layouts[call] = given
            else:
                refused[call] = given
        elif len(shape) == 3 and passes.longest is None:
            unclear[call] = shape
        elif len(shape) <= 4:
            found = _sequence_or_map(passes, call, shape, other)
            if isinstance(found, Layout):
                layouts[call] = found
            elif found:
                refused[call] = found
            else:
                unclear[call] = shape
        else:
            found = f"its output for one image is {show(shape[1:])}"
            refused[call] = f"{found}, which is not a feature map, token sequence or vector"
    if unclear:
        Perturbation(passes, unclear, layouts, refused).tell()
        name_special_tokens(passes, unclear, layouts)
    if passes.longest is not None:
        name_class_token(passes, layouts)
    return layouts, refused


def _sequence_or_map(passes: Passes, call: CallIndex, shape: Shape, other: Shape | None) -> Layout | str | None:
    """Return the layout of an output, why it has none, or `None` if its shape is ambiguous."""
    found = None if passes.longest is None else sequence_layout(passes, call, shape)
    return _map(passes, call, shape, other) if found is None else found


def _map(passes: Passes, call: CallIndex, shape: Shape, other: Shape | None) -> Layout | str | None:
    """Return the layout of a 4-dimensional output, why it has none, or `None` if its growth is ambiguous."""
    growing = passes.growing(call)
    if len(growing) == 2 and other:
        one, two = growing
        lengths = {shape[1:] for shape in passes.first.shapes.values() if shape and len(shape) == 3}
        if shape[one] == shape[two] and other[one] == other[two] and any(shape[one] in both for both in lengths):
            return MATRIX
        more = [other[i] - shape[i] for i in growing]
        by = [passes.larger[i] - passes.spec.size[i] for i in (0, 1)]
        # Rows grow as the height does, columns as the width: then more[0] / by[0] = more[1] / by[1].
        straight, across = abs(more[0] * by[1] - more[1] * by[0]), abs(more[0] * by[0] - more[1] * by[1])
        transposed = across < straight
        # With another stride for rows than for columns, each dimension grows in proportion to its own side.
        in_proportion = [_grows_in_proportion(passes, shape, more, growing, sides) for sides in ((0, 1), (1, 0))]
        if in_proportion[not transposed] and not in_proportion[transposed]:
            transposed = not transposed
        elif min(straight, across) > sum(by) and not in_proportion[transposed]:  # more than rounding explains
            return "its output has two dimensions that grow, but not as the sides of the image do"
        return Layout("map", 1 + 2 + 3 - sum(growing), transposed=transposed)
    # A linear layer or a normalisation of the last dimension may have heads and tokens before it.
    if shape[2:] == (1, 1) or defined_channel(passes.parts[call[0]], shape) == 1:
        return Layout("map", 1)
    if len(growing) == 1 and other and not any(shape[i] == 1 for i in (1, 2, 3) if i not in growing):
        return HEADS
    return None


def _grows_in_proportion(
    passes: Passes, shape: Shape, more: list[int], dims: list[int], sides: tuple[int, int]
) -> bool:
    """Return whether dimensions are as long as their growth with sides of the image says, up to one cell."""
    size, larger = passes.spec.size, passes.larger
    expected = [grown * size[side] / (larger[side] - size[side]) for grown, side in zip(more, sides, strict=True)]
    return all(abs(shape[dim] - length) <= 1 for dim, length in zip(dims, expected, strict=True))


def _layer(passes: Passes, call: CallIndex, layout: Layout) -> LayerRow:
    shape, other = passes.shapes_of(call)
    assert shape is not None
    layout = replace(layout, batch=int(call in passes.tokens_first))
    if call in passes.first.complex:
        layout = replace(layout, kind="complex", patch=None)
    layer = LayerRow(call[0], layout, shape[1:] or (1,), calls=passes.first.counts[call[0]])
    return replace(layer, stride=_stride(passes, layer, other), strides=_strides(passes, layer, other))


def _strides(passes: Passes, layer: LayerRow, other: Shape | None) -> Shape:
    """Return the distance in px of neighbouring positions along each axis of a map of volumes or video; else empty."""
    if passes.specs or layer.layout.kind != "map" or len(layer.map_size) != 3:
        return ()
    grown = replace(layer, shape=other[1:]).map_size if other else (None,) * 3
    return tuple(
        axis_stride(passes, *sides, axis) for axis, sides in enumerate(zip(layer.map_size, grown, strict=True))
    )


def _stride(passes: Passes, layer: LayerRow, other: Shape | None) -> int:
    """Return the distance in px of neighbouring columns of a map; 0 where it has one column or row only.

    It is also 0 with several inputs, because it is undefined which input's px to count.
    """
    if passes.specs:
        return 0
    if layer.layout.kind == "map" and layer.layout.axes != 2:
        grown = replace(layer, shape=other[1:]).map_size[-1] if other else None
        return axis_stride(passes, layer.map_size[-1], grown)
    if layer.layout.kind != "map" or min(layer.map_size) == 1:
        return 0
    size, larger = passes.spec.size, passes.larger
    # The growth of the map is exact also for convolutions without padding, whose map is smaller than size / stride.
    if other and (more := replace(layer, shape=other[1:]).map_size[1] - layer.map_size[1]) > 0:
        return round((larger[1] - size[1]) / more)
    return round(size[1] / layer.map_size[1])
