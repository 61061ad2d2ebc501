"""Run a network on thin images to measure the receptive fields of its feature maps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.network.activations import first_tensor
from featviz.network.fast.weight_formats import convert_weights
from featviz.network.hooks import PassDone, watch_outputs
from featviz.network.passes import raise_unless_size_error
from featviz.network.receptive_fields import Columns, ReceptiveField, receptive_fields
from featviz.random import Chance

if TYPE_CHECKING:
    from featviz.network.network import Network

FIELD_WIDTH = 256
"""Smallest width in px of the images on which receptive fields are measured; smaller images would clip them."""
FIELD_HEIGHTS = (32, 64, 128)
"""Heights in px of those images that are tried, the cheapest first. The last one tried is the network's own.

Of volumes, 8 planes of 16 rows are tried first, then twice as many."""


def receptive_fields_of(network: Network) -> dict[str, ReceptiveField]:
    """Measure the receptive field and stride of every feature map of a network.

    Args:
        network: The network.

    Returns:
        The receptive fields by layer name; empty if the network does not run on images of any size that is tried.
    """
    strides = {name: layer.stride for name, layer in network.table.items() if layer.stride and layer.base is None}
    for size in _sizes(network):
        try:
            return receptive_fields(partial(_run, network, set(strides)), strides, size, network.channels)
        except Exception as error:
            raise_unless_size_error(error)
            if size == network.size:
                raise
    return {}


def _sizes(network: Network) -> list[Size]:
    """Return sizes of the images on which receptive fields can be measured, the cheapest first."""
    *sides, width = network.size
    if network.fixed_size:
        return [network.size]
    wide = max(FIELD_WIDTH, width)
    if len(sides) != 1:
        thin = [tuple(min(side, most) for side, most in zip(sides, (8 * k, 16 * k), strict=False)) for k in (1, 2)]
        return list(dict.fromkeys([*((*low, wide) for low in (*thin, tuple(sides))), network.size]))
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
        watch_outputs(module, expected.contiguous(memory_format=network.probed.memory_format), on_call)
