"""The layer table: kind, shape, channels and stride of every layer, found by running the network twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from featviz.interfaces import Size
from featviz.network.activations import Layout, first_tensor
from featviz.network.module_state import frozen
from featviz.network.receptive_fields import ReceptiveField
from featviz.random import Chance

CHANNELS_LAST_MODULES = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)
"""Modules whose output has its channels last, whatever its shape."""
CHANNELS_FIRST_MODULES = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
"""Modules whose output has its channels as dimension 1."""
MAX_PREFIX_TOKENS = 16
"""Largest number of tokens (class, distillation, registers) that are expected before a patch grid."""
FIRST_BATCH, SECOND_BATCH = 2, 3
"""Number of images in the two passes of `probe`. They differ, so that the batch dimension can be recognised."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Args:
        name: Dotted name of the module, as in `named_modules`; empty for the whole network.
        layout: Meaning of the dimensions of the output.
        shape: Shape of the output for one image of the network's input size, without the batch dimension.
        stride: Distance of neighbouring positions of a feature map, in px; 0 for a layer without positions.
        calls: Number of times that the module runs in one pass. Its output is captured at the last call.
    """

    name: str
    layout: Layout
    shape: Shape
    stride: int = 0
    calls: int = 1

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[self.layout.channel - 1]

    @property
    def map_size(self) -> Shape:
        """The shape without the channel dimension."""
        return tuple(side for i, side in enumerate(self.shape) if i != self.layout.channel - 1)


@dataclass(frozen=True)
class Probed:
    """What running a network twice tells about it.

    Args:
        table: Every layer that can be addressed, by name, in the order in which the modules finish.
        fixed_size: Whether the network refused every size but its own.
        memory_format: Channels last, unless the network reshapes its feature maps in a way that does not allow it.
        draws: Whether the network draws random numbers in eval mode, as with dropout that is always active.
    """

    table: dict[str, Layer]
    fixed_size: bool
    memory_format: torch.memory_format
    draws: bool = False


@dataclass
class _PassRecord:
    """Shapes of the outputs in one pass, by layer, in the order of last calls; and what else was observed."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    draws: bool = False


def probe(module: nn.Module, images: Callable[[int, Size], Tensor], size: Size) -> Probed:
    """Find the layers of a network, and tell the dimensions of their outputs apart.

    The network runs on 2 images of its own size, then on 3 images of a larger size with another aspect ratio. The
    dimension of an output that goes from 2 to 3 is the batch, dimensions that grow with the size are positions, and
    the one that stays the same is the channels. Where the network accepts one size only, the second pass tells about
    the layers before the refusal, and the kind of module and the shape decide about the others.

    Args:
        module: The network.
        images: Makes n normalised images of a size: `images(n, (height, width))`.
        size: Height and width in px of the network's own input.

    Returns:
        The layer table and further properties of the network.
    """
    parts = dict(module.named_modules())
    names = {part: name for name, part in parts.items()}
    first, memory_format = _first_pass(names, module, images, size)
    second, larger, fixed_size = _larger_pass(names, module, images, size, memory_format)
    tokens_first = _move_batch_first(first, second)
    token_counts = {
        shape[1]
        for part, name in names.items()
        if isinstance(part, CHANNELS_LAST_MODULES) and len(shape := first.shapes.get(name, ())) == 3
    }
    table = {}
    for name, shape in first.shapes.items():
        other = second.shapes.get(name)
        layout = _layout(parts[name], shape, other, (size, larger), token_counts)
        if layout:
            layout = replace(layout, batch=int(name in tokens_first))
            layer = Layer(name, layout, shape[1:], calls=first.calls[name])
            table[name] = replace(layer, stride=_stride(layer, other, size, larger))
    return Probed(table, fixed_size, memory_format, first.draws)


def raise_unless_size_error(error: Exception) -> None:
    """Raise an error again unless it can mean that the network refuses the size of its input.

    Modules refuse a size with errors of any type and text. Only running out of memory certainly means something else.

    Args:
        error: What the forward pass raised.

    Raises:
        Exception: The same error, if it is about memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        raise error


# ---------------------------------------------------------------------------------------------- the two passes


def _first_pass(
    names: dict[nn.Module, str], module: nn.Module, images: Callable[[int, Size], Tensor], size: Size
) -> tuple[_PassRecord, torch.memory_format]:
    """Run the network at its own size, with channels last in memory if it allows that."""
    for memory_format in (torch.channels_last, torch.contiguous_format):
        record = _PassRecord()
        try:
            _record_pass(names, module, images(FIRST_BATCH, size).contiguous(memory_format=memory_format), record)
            break
        except Exception:
            # Feature maps that are flattened with `view` must be contiguous. If the network is broken instead, the
            # contiguous pass fails too, and its error surfaces.
            if memory_format is torch.contiguous_format:
                raise
    return record, memory_format


def _larger_pass(
    names: dict[nn.Module, str],
    module: nn.Module,
    images: Callable[[int, Size], Tensor],
    size: Size,
    memory_format: torch.memory_format,
) -> tuple[_PassRecord, Size, bool]:
    """Run the network at a larger size.

    Returns:
        The record, the last size that was tried, and whether all were refused. The record of a refused size is kept,
        because it tells about the layers before the one that refused.
    """
    # The second size is a multiple of the network's own, for networks that accept multiples of some number only.
    for larger in ((size[0] + 32, size[1] + 64), (2 * size[0], 3 * size[1])):
        record = _PassRecord()
        try:
            _record_pass(names, module, images(SECOND_BATCH, larger).contiguous(memory_format=memory_format), record)
            return record, larger, False
        except Exception as error:
            raise_unless_size_error(error)
    return record, larger, True


def _record_pass(names: dict[nn.Module, str], module: nn.Module, images: Tensor, record: _PassRecord) -> None:
    """Run the network, and record the shape of every module's output at its last call."""

    def note(part: nn.Module, _: object, output: object) -> None:
        name = names[part]
        record.calls[name] += 1
        tensor = first_tensor(output)
        record.shapes.pop(name, None)  # also moves the layer to the end: the order is that of last calls
        if tensor is not None:
            record.shapes[name] = tuple(tensor.shape)

    with ExitStack() as stack:
        stack.enter_context(frozen(module))
        for part in names:
            stack.callback(part.register_forward_hook(note).remove)
        chance = Chance(images.device)
        # Without gradients, PyTorch's transformer layers take a fused path that skips their submodules.
        with chance(), torch.enable_grad():
            module(images.requires_grad_())
        record.draws = chance.used


def _move_batch_first(first: _PassRecord, second: _PassRecord) -> set[str]:
    """Swap the first two dimensions of layers that put out (tokens, batch, channels), and return their names."""
    tokens_first = {name for name, shape in first.shapes.items() if _has_tokens_first(shape, second.shapes.get(name))}
    for record in (first, second):
        for name in tokens_first & record.shapes.keys():
            tokens, batch, *rest = record.shapes[name]
            record.shapes[name] = (batch, tokens, *rest)
    return tokens_first


def _has_tokens_first(shape: Shape, other: Shape | None) -> bool:
    """Whether an output is (tokens, batch, channels), the default of PyTorch's transformer layers."""
    batch_is_second = len(shape) == 3 and shape[0] != FIRST_BATCH == shape[1]
    return batch_is_second and (other is None or other[1:2] == (SECOND_BATCH,))


# ---------------------------------------------------------------------------------------------- the meaning of shapes


def _layout(
    part: nn.Module, shape: Shape, other: Shape | None, sizes: tuple[Size, Size], token_counts: set[int]
) -> Layout | None:
    """Tell the dimensions of an output apart.

    Args:
        part: The module.
        shape: Shape of the output in the first pass, batch first.
        other: Shape of the output in the second pass; `None` where the module did not run.
        sizes: Height and width in px of the images in both passes.
        token_counts: Lengths of the token sequences of the network, as far as the kinds of modules tell.

    Returns:
        The layout; `None` where the output is not a feature map, token sequence or vector.
    """
    if shape[0] != FIRST_BATCH or (other and (other[0] != SECOND_BATCH or len(other) != len(shape))):
        return None
    growing = [i for i in range(1, len(shape)) if other and other[i] != shape[i]]
    if len(shape) == 2:
        return Layout("vector")
    if len(shape) == 3:
        channel = _token_channel(part, shape, growing, token_counts)
        return _token_layout(channel, shape, other, sizes) if channel else None
    if len(shape) == 4:
        channel = _map_channel(part, shape, growing)
        return Layout("map", channel) if channel else None
    return None


def _map_channel(part: nn.Module, shape: Shape, growing: list[int]) -> int:
    """Return the channel dimension of a 4-dimensional output; 0 if it cannot be told."""
    if len(growing) == 2:
        return 1 + 2 + 3 - sum(growing)  # the dimension that did not grow
    _, a, b, c = shape
    if isinstance(part, CHANNELS_FIRST_MODULES) or b == c == 1:
        return 1
    if isinstance(part, CHANNELS_LAST_MODULES):
        return 3
    if b == c != a:  # a square feature map, channels first
        return 1
    return 3 if a == b != c else 0


def _token_channel(part: nn.Module, shape: Shape, growing: list[int], token_counts: set[int]) -> int:
    """Return the channel dimension of a 3-dimensional output; 0 if it cannot be told."""
    if isinstance(part, CHANNELS_LAST_MODULES) or growing == [1]:
        return 2
    if isinstance(part, CHANNELS_FIRST_MODULES) or growing == [2]:
        return 1
    return 2 if shape[1] in token_counts else 1 if shape[2] in token_counts else 0


def _token_layout(channel: int, shape: Shape, other: Shape | None, sizes: tuple[Size, Size]) -> Layout:
    """Return the layout of a token sequence, with its patch grid if the counts of both passes agree on one."""
    sequence = 1 + 2 - channel
    patch, prefix = _patch_grid(shape[sequence], sizes[0])
    if other and _token_count(sizes[1], patch, prefix) != other[sequence]:
        patch, prefix = None, 0
    return Layout("tokens", channel, patch, prefix)


def _patch_grid(count: int, size: Size) -> tuple[Size | None, int]:
    """Find the square patch that cuts an image into `count` tokens with the fewest prefix tokens.

    Returns:
        Height and width of the patch in px, and the number of prefix tokens; `None` and 0 if no patch fits.
    """
    candidates = [
        (count - _token_count(size, (side, side), 0), side)
        for side in range(1, min(size) + 1)
        if size[0] % side == size[1] % side == 0
    ]
    fitting = ((prefix, side) for prefix, side in candidates if 0 <= prefix <= MAX_PREFIX_TOKENS)
    prefix, side = min(fitting, default=(0, 0))
    return ((side, side), prefix) if side else (None, 0)


def _token_count(size: Size, patch: Size | None, prefix: int) -> int:
    """Return the number of tokens of an image; -1 without a patch."""
    return prefix + math.prod(side // step for side, step in zip(size, patch, strict=True)) if patch else -1


def _stride(layer: Layer, other: Shape | None, size: Size, larger: Size) -> int:
    """Return the distance in px of neighbouring columns of a feature map; 0 where it has one column or row only."""
    if layer.layout.kind != "map" or min(layer.map_size) == 1:
        return 0
    # The growth of the map is exact also for convolutions without padding, whose map is smaller than size / stride.
    if other and (more := replace(layer, shape=other[1:]).map_size[1] - layer.map_size[1]) > 0:
        return round((larger[1] - size[1]) / more)
    return round(size[1] / layer.map_size[1])


# ---------------------------------------------------------------------------------------------- the table


class LayerTable:
    """The layers of a network as a table of text.

    Args:
        layers: The layers by name.
        fields: Receptive fields by layer name, for feature maps.
    """

    HEADER = ("layer", "kind", "shape", "channels", "field px", "stride px")

    def __init__(self, layers: dict[str, Layer], fields: dict[str, ReceptiveField]) -> None:
        self.layers, self.fields = layers, fields

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells as text, one row per layer, without the header."""
        rows: list[tuple[str, ...]] = []
        for name, layer in self.layers.items():
            field = self.fields.get(name)
            field_cells = ("", "") if field is None else (str(field.px or "all"), str(field.stride))
            shape = "x".join(map(str, layer.shape))
            label = name or ("logit" if layer.layout.kind == "vector" else "(output)")
            rows.append((label, layer.layout.kind, shape, str(layer.channels), *field_cells))
        return rows

    def __str__(self) -> str:
        """Return the table with aligned columns."""
        rows = [self.HEADER, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.HEADER))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    __repr__ = __str__
