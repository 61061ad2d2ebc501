"""Run a network on thin images to measure the receptive fields of its feature maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import MAX_AXES, Size
from featviz.network.fast.memory_formats import convert_weights
from featviz.network.hooks import PassDone, watch_outputs
from featviz.network.probing.passes import raise_unless_size_error
from featviz.network.probing.receptive_fields import Columns, ReceptiveField, receptive_fields
from featviz.network.trees import first_tensor
from featviz.random import Chance

if TYPE_CHECKING:
    from featviz.network.network import Network

FIELD_WIDTH = 256
"""Smallest width in px of the images on which receptive fields are measured; smaller images would clip them."""
FIELD_HEIGHTS = (32, 64, 128)
"""Heights in px of those images that are tried, the cheapest first. The last one tried is the network's own.

Of volumes, thin ones are tried first, then those twice as thick."""
THIN_SIDES = (8, 16, 16)
"""Length in px of the axes of volumes along which nothing is measured."""


def receptive_fields_of(network: Network) -> dict[str, ReceptiveField]:
    """Measure the receptive field and stride of every feature map of a network.

    Args:
        network: The network.

    Returns:
        The receptive fields by layer name; empty if the network does not run on images of any size that is tried.
    """
    layers = {name: layer for name, layer in network.table.items() if layer.stride and layer.base is None}
    fields = _measure(network, {name: layer.stride for name, layer in layers.items()}, _sizes(network), None)
    if len(network.size) != MAX_AXES or not fields:
        return fields
    along = []
    for axis in range(MAX_AXES - 1):
        strides = {name: layers[name].strides[axis] for name in fields if layers[name].strides}
        positive = {name: stride for name, stride in strides.items() if stride}
        along.append(_measure(network, positive, _volumes(network, axis), axis))
        if positive and not along[-1]:  # the network runs on no volume that is long enough along this axis
            return fields
    sides = {name: tuple(found[name].px if name in found else None for found in along) for name in fields}
    return {name: replace(field, sides=(*sides[name], field.px)) for name, field in fields.items()}


def _measure(
    network: Network, strides: dict[str, int], sizes: list[Size], axis: int | None
) -> dict[str, ReceptiveField]:
    """Return the receptive fields along an axis, on images of the first size that the network accepts."""
    for size in sizes:
        try:
            run = partial(_run, network, set(strides))
            return receptive_fields(run, strides, size, network.channels, axis)
        except Exception as error:
            raise_unless_size_error(error)
            if size == network.size:
                raise
    return {}


def _volumes(network: Network, axis: int) -> list[Size]:
    """Return sizes of volumes or clips that are long along one axis and thin along the others, the cheapest first."""
    own = network.size
    if network.fixed_size:
        return [own]
    thin = [[min(side, THIN_SIDES[i] * k) for i, side in enumerate(own)] for k in (1, 2)]
    long = [
        tuple(max(FIELD_WIDTH, own[axis]) if i == axis else side for i, side in enumerate(each))
        for each in (*thin, own)
    ]
    return list(dict.fromkeys([*long, own]))


def _sizes(network: Network) -> list[Size]:
    """Return sizes of the images on which receptive fields can be measured, the cheapest first."""
    *sides, width = network.size
    if network.fixed_size:
        return [network.size]
    wide = max(FIELD_WIDTH, width)
    if not sides:
        return list(dict.fromkeys([(wide,), network.size]))
    if len(sides) == MAX_AXES - 1:
        return _volumes(network, MAX_AXES - 1)
    (height,) = sides
    return [*((low, wide) for low in FIELD_HEIGHTS), (max(FIELD_WIDTH, height), wide), network.size]


def _run(network: Network, maps: set[str], images: Float[Tensor, "n c *size"], note: Columns) -> None:
    """Run a network on images in [0, 1] up to the last feature map, and call back with the outputs of maps."""
    left = set(maps)

    def on_call(name: str, number: int, output: object) -> None:
        tensor = first_tensor(output)
        if name not in left or number + 1 < network.table[name].calls or tensor is None:
            return
        layout = network.table[name].layout
        values = tensor.detach().movedim(layout.channel, 1)
        note(name, values.transpose(2, 3) if layout.transposed else values)
        left.remove(name)
        if not left:
            raise PassDone

    module = network.copy_module()
    convert_weights(module, network.probed.memory_format)
    expected = network.normaliser()(images.to(network.device, network.dtype))
    with Chance(network.device)():
        inputs = expected.contiguous(memory_format=network.probed.memory_format)
        watch_outputs(module, inputs, on_call, keep_graph=network.probed.keeps_graph)
