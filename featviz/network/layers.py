"""The layer table: what every module puts out, found by running the network and looking."""

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

CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)
"""Modules whose output has its channels last, whatever its shape."""
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
"""Modules whose output has its channels as dimension 1."""
MOST_PREFIX = 16
"""Class, distillation and register tokens that may stand before a patch grid."""


@dataclass(frozen=True)
class Layer:
    """One line of the layer table.

    Args:
        name: PyTorch's dotted name.
        layout: what each dimension of the output means.
        shape: of the output for one image at the network's own size.
        stride: px from one place of a feature map to the next; 0 where it has no places.
        calls: how often the module runs in one pass; it is captured at the last.
    """

    name: str
    layout: Layout
    shape: tuple[int, ...]
    stride: int = 0
    calls: int = 1

    @property
    def channels(self) -> int:
        """How many channels there are to address."""
        return self.shape[self.layout.channel - 1]

    @property
    def places(self) -> tuple[int, ...]:
        """The shape without the channels."""
        return tuple(side for i, side in enumerate(self.shape) if i != self.layout.channel - 1)


@dataclass
class _Seen:
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    drew: bool = False


@dataclass(frozen=True)
class Probed:
    """What two passes tell of a network.

    Args:
        table: every layer that can be addressed, by name, in the order in which they end.
        fixed_size: whether it refused every size but its own.
        memory_format: channels last, unless the network reshapes its maps in a way that does not allow it.
        draws: whether it takes random numbers as it runs, as dropout that was not told to stop does.
    """

    table: dict[str, Layer]
    fixed_size: bool
    memory_format: torch.memory_format
    draws: bool = False


def probe(module: nn.Module, images: Callable[[int, Size], Tensor], size: Size) -> Probed:
    """Find what every layer puts out.

    Two passes, at two sizes and two batch sizes, tell the dimensions apart: what follows the batch is the batch,
    what follows the size is space, and what stays is channels.

    Args:
        module: the network.
        images: makes so many images of a size, as the network wants them.
        size: the network's own.
    """
    parts = dict(module.named_modules())
    names = {part: name for name, part in parts.items()}
    memory_format, first = torch.channels_last, _Seen()
    try:
        _watch(names, module, images(2, size).contiguous(memory_format=memory_format), first)
    except Exception:  # a network that flattens its maps with `view`, or a broken one: then this says so
        memory_format = torch.contiguous_format
        first = _Seen()
        _watch(names, module, images(2, size), first)
    second, fixed_size, larger = _Seen(), True, size
    for larger in ((size[0] + 32, size[1] + 64), (2 * size[0], 3 * size[1])):
        second = _Seen()  # of a size that is refused, too: it tells of the layers up to the one that does so
        try:
            _watch(names, module, images(3, larger).contiguous(memory_format=memory_format), second)
            fixed_size = False
            break
        except Exception as error:
            refuses_size(error)
    turned = {name for name, shape in first.shapes.items() if _is_turned(shape, second.shapes.get(name))}
    for name in turned:
        for seen in (first, second):
            if name in seen.shapes:
                length, batch, *rest = seen.shapes[name]
                seen.shapes[name] = (batch, length, *rest)
    tokens = {
        shape[1]
        for part, name in names.items()
        if isinstance(part, CHANNELS_LAST) and len(shape := first.shapes.get(name, ())) == 3
    }
    table = {}
    for name, shape in first.shapes.items():
        other = second.shapes.get(name)
        layout = _layout(parts[name], shape, other, (size, larger), tokens)
        if layout:
            layout = replace(layout, batch=int(name in turned))
            layer = Layer(name, layout, shape[1:], calls=first.calls[name])
            table[name] = replace(layer, stride=_stride(layer, other, size, larger))
    return Probed(table, fixed_size, memory_format, first.drew)


def _is_turned(shape: tuple[int, ...], other: tuple[int, ...] | None) -> bool:
    """Say whether a layer puts out tokens first and images second, as PyTorch's transformers do unless told not to."""
    return len(shape) == 3 and shape[0] != 2 == shape[1] and (other is None or other[1:2] == (3,))


def refuses_size(error: Exception) -> None:
    """Let an error pass as a network's answer to a size that it does not take, whatever its words.

    Raises:
        Exception: the same error, where it is about memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        raise error


def _stride(layer: Layer, other: tuple[int, ...] | None, size: Size, larger: Size) -> int:
    """Return the px from one place of a map to the next, along the width; 0 where there is one place only."""
    if layer.layout.kind != "map" or min(layer.places) == 1:
        return 0
    if other and (more := replace(layer, shape=other[1:]).places[1] - layer.places[1]) > 0:
        return round((larger[1] - size[1]) / more)
    return round(size[1] / layer.places[1])


def _watch(names: dict[nn.Module, str], module: nn.Module, images: Tensor, seen: _Seen) -> None:
    """Run the network, and note the shape of what every module puts out at its last call."""

    def note(part: nn.Module, _: object, output: object) -> None:
        name = names[part]
        seen.calls[name] += 1
        tensor = first_tensor(output)
        seen.shapes.pop(name, None)  # the last call counts, also for the order
        if tensor is not None:
            seen.shapes[name] = tuple(tensor.shape)

    with ExitStack() as stack:
        stack.enter_context(frozen(module))
        for part in names:
            stack.callback(part.register_forward_hook(note).remove)
        chance = Chance(images.device)
        with chance(), torch.enable_grad():  # without gradients PyTorch's transformer layers skip their submodules
            module(images.requires_grad_())
        seen.drew = chance.used


def _layout(
    part: nn.Module, shape: tuple[int, ...], other: tuple[int, ...] | None, sizes: tuple[Size, Size], tokens: set[int]
) -> Layout | None:
    """Tell the dimensions apart, or give up."""
    if shape[0] != 2 or (other and (other[0] != 3 or len(other) != len(shape))):
        return None
    moved = [i for i in range(1, len(shape)) if other and other[i] != shape[i]]
    if len(shape) == 2:
        return Layout("vector")
    if len(shape) == 4:
        channel = _map_channel(part, shape, moved)
        return Layout("map", channel) if channel else None
    if len(shape) == 3:
        if isinstance(part, CHANNELS_LAST) or moved == [1]:
            channel = 2
        elif isinstance(part, CHANNELS_FIRST) or moved == [2]:
            channel = 1
        else:
            channel = 2 if shape[1] in tokens else 1 if shape[2] in tokens else 0
        if not channel:
            return None
        where = 3 - channel
        patch, prefix = _grid(shape[where], sizes[0])
        if other and _tokens(sizes[1], patch, prefix) != other[where]:
            patch, prefix = None, 0
        return Layout("tokens", channel, patch, prefix)
    return None


def _map_channel(part: nn.Module, shape: tuple[int, ...], moved: list[int]) -> int:
    if len(moved) == 2:
        return 6 - sum(moved)
    _, a, b, c = shape
    if isinstance(part, CHANNELS_FIRST) or b == c == 1:
        return 1
    if isinstance(part, CHANNELS_LAST):
        return 3
    if b == c != a:
        return 1
    return 3 if a == b != c else 0


def _grid(count: int, size: Size) -> tuple[Size | None, int]:
    """Find the square patch that cuts the image into `count` tokens, with the fewest tokens before them."""
    fits = [
        (count - _tokens(size, (side, side), 0), side)
        for side in range(1, min(size) + 1)
        if size[0] % side == size[1] % side == 0
    ]
    prefix, side = min(((prefix, side) for prefix, side in fits if 0 <= prefix <= MOST_PREFIX), default=(0, 0))
    return ((side, side), prefix) if side else (None, 0)


def _tokens(size: Size, patch: Size | None, prefix: int) -> int:
    return prefix + math.prod(side // step for side, step in zip(size, patch, strict=True)) if patch else -1


class LayerTable:
    """The layers of a network as a table that prints itself.

    Args:
        layers: by name.
        fields: receptive fields by name, where they are defined.
    """

    HEAD = ("layer", "kind", "shape", "channels", "field px", "stride px")

    def __init__(self, layers: dict[str, Layer], fields: dict[str, ReceptiveField]) -> None:
        self.layers, self.fields = layers, fields

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells as text, without the head."""
        rows: list[tuple[str, ...]] = []
        for name, layer in self.layers.items():
            field = self.fields.get(name)
            sees = ("", "") if field is None else (str(field.px or "all"), str(field.stride))
            shape = "x".join(map(str, layer.shape))
            label = name or ("logit" if layer.layout.kind == "vector" else "(output)")
            rows.append((label, layer.layout.kind, shape, str(layer.channels), *sees))
        return rows

    def __str__(self) -> str:
        """Lay the table out in columns."""
        rows = [self.HEAD, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    __repr__ = __str__
