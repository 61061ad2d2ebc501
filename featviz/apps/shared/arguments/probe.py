"""Run a network once on grey or noise, to check layers, channels, positions and classes before anything expensive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.network import Activations, Network
from featviz.random import noise_images

GREY = 0.5


def probe(network: Network, layers: Iterable[str]) -> Activations:
    """Return the activations of layers for one grey image.

    Args:
        network: The network.
        layers: Names of the layers; empty text for the output.

    Returns:
        The activations, for a batch of one image.

    Raises:
        AddressError: There is no such layer.
    """
    return network.capture(grey(network), layers)


def grey(network: Network) -> Float[Tensor, "1 c *size"]:
    """Return a grey image of the network's input size, on its device."""
    return torch.full((1, network.channels, *network.size), GREY, device=network.device)


def noise(network: Network, count: int = 1) -> Float[Tensor, "count c h w"]:
    """Return images of uniform noise, the same at each call.

    Args:
        network: The network, whose input size and channels the images have.
        count: Number of images, >= 1.

    Returns:
        The images, in [0, 1], on the CPU.
    """
    return noise_images(count, network.channels, network.size)


def check_channels(network: Network, layer: str, channels: Sequence[int] | None) -> list[int]:
    """Check channels of a layer.

    Args:
        network: The network.
        layer: Name of the layer.
        channels: Indices; `None` for all channels of the layer.

    Returns:
        The indices.

    Raises:
        AddressError: There is no such layer or channel.
        SettingError: `channels` is empty.
    """
    acts = probe(network, [layer])
    if channels is None:
        return list(range(acts.channels_first(layer).shape[1]))
    if not len(channels):
        raise SettingError("channels must not be empty; give some, or None for all")
    for channel in channels:
        acts.channel(layer, channel)
    return list(channels)


def check_positions(network: Network, layer: str) -> tuple[int, ...]:
    """Check that a layer has positions.

    Args:
        network: The network.
        layer: Name of the layer.

    Returns:
        Number of positions along each axis at the network's input size.

    Raises:
        AddressError: There is no such layer, or its output is one vector or tokens that are not on a grid.
    """
    return tuple(probe(network, [layer]).as_map(layer).shape[2:])


def in_network_order(network: Network, layers: Iterable[str]) -> list[str]:
    """Return names of layers in the order of the network: calls of a module by their number, further outputs last.

    Args:
        network: The network.
        layers: Names of layers, such as `"stage2"`, `"stage2#1"` or `"output.mask"`.
    """
    names = list(network.table)

    def place(layer: str) -> tuple[int, float]:
        module, _, call = layer.partition("#")
        number = int(call) if call.isdecimal() else float("inf")  # the name of a module is that of its last call
        return (names.index(module) if module in names else len(names)), number

    return sorted(layers, key=place)


def check_layers(network: Network, layers: str | Sequence[str]) -> list[str]:
    """Return names of layers without repetitions, and check that they have positions.

    Args:
        network: The network.
        layers: One name, or several.

    Raises:
        AddressError: There is no such layer, or it has no positions.
        SettingError: `layers` is empty.
    """
    names = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not names:
        raise SettingError("layers must not be empty; give at least one")
    for layer in names:
        check_positions(network, layer)
    return names
