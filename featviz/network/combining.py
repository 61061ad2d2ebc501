"""Combine several networks into one that runs them on the same images."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.network.layers import Layer, Probed
from featviz.network.network import Network


def combine(**networks: Network) -> Network:
    """Combine several networks, so that one objective can address all of them.

    Each network keeps its normalisation, and its input size if that is fixed. Layers are addressed by the network's
    name and their own, and classes by the network's name: `first.stage2:5 - logit:star@second`.

    Args:
        networks: Two or more networks by name. The names are Python identifiers.

    Returns:
        A network whose layers are those of all given ones.

    Raises:
        SettingError: Fewer than two networks, one of them twice, different numbers of channels, devices or
            precisions, inputs that are given per image, or a name that cannot be used.

    >>> from featviz.network import load
    >>> combine(first=load("motifnet", device="cpu"), second=load("motifnet", weights="none", device="cpu")).channels
    3
    """
    if len(networks) < 2:
        raise SettingError(
            f"combine needs at least 2 networks, as combine(first=one, second=other), got {len(networks)}"
        )
    reading = [name for name, network in networks.items() if network.tokens is not None]
    if reading:
        raise SettingError(f"combined networks must read images; {reading[0]} reads text")
    own = [name for name, network in networks.items() if network.given_images is not None]
    if own:
        raise SettingError(
            f"combined networks need inputs that are the same for all images; {own[0]} has some per image"
        )
    several = [name for name, network in networks.items() if network.inputs]
    if several:
        raise SettingError(
            f"combined networks must each optimise one input; {several[0]} optimises "
            f"{' and '.join(networks[several[0]].inputs)}; give values for all but one with net.with_given(...)"
        )
    first, *others = networks.values()
    if len({id(network.module) for network in networks.values()}) < len(networks):
        raise SettingError("combined networks must not share a module; copy it with copy.deepcopy(module)")
    for other in others:
        kinds = [(net.channels, str(net.device), net.dtype) for net in (first, other)]
        if kinds[0] != kinds[1]:
            found = " and ".join(" ".join(map(str, kind)) for kind in kinds)
            raise SettingError(f"combined networks must have equal channels, device and precision, got {found}")
    made = Network(
        _Combined(networks),
        size=first.size,
        mean=(0.0,) * first.channels,
        std=(1.0,) * first.channels,
        heads={name: network.classes for name, network in networks.items()},
        smooth_pools=any(network.smooth_pools for network in networks.values()),
        probed=_combined_layers(networks),
    )
    attached = {
        f"{name}.{layer}".rstrip("."): dictionary
        for name, network in networks.items()
        for layer, dictionary in network.dictionaries.items()
    }
    return made._with_dictionaries({layer: each.at(layer) for layer, each in attached.items()}) if attached else made


def _combined_layers(networks: dict[str, Network]) -> Probed:
    """Combine the layer tables of the networks, whose layers are prefixed by the networks' names."""
    table: dict[str, Layer] = {}
    formats = set()
    for name, network in networks.items():
        probed = network.probed
        size = network.size if probed.fixed_size else None
        formats.add(probed.memory_format)
        for layer in probed.table.values():
            full_name = f"{name}.{layer.name}".rstrip(".")  # a network's output has no name of its own
            table[full_name] = replace(layer, name=full_name, layout=replace(layer.layout, size=size))
    memory_format = formats.pop() if len(formats) == 1 else torch.contiguous_format
    draws = any(network.probed.draws for network in networks.values())
    return Probed(table, fixed_size=False, memory_format=memory_format, draws=draws)


class _Combined(nn.Module):
    """Runs several networks on the same images. A pass that captures layers skips networks without such a layer."""

    def __init__(self, networks: dict[str, Network]) -> None:
        super().__init__()
        self.parts = [(net.module, net.normaliser(), net.size if net.fixed_size else None) for net in networks.values()]
        for name, network in networks.items():
            if not name.isidentifier() or hasattr(self, name):
                raise SettingError(
                    f"the name of a combined network must be an identifier that nn.Module does not use, got {name!r}"
                )
            self.add_module(name, network.module)

    def forward(self, images: Tensor) -> tuple[object, ...]:
        """Run the networks that have hooks, or all if none has."""
        hooked = [part for part in self.parts if any(module._forward_hooks for module in part[0].modules())]
        return tuple(module(normalise(_resize(images, size))) for module, normalise, size in hooked or self.parts)


def _resize(images: Tensor, size: Size | None) -> Tensor:
    if size is None or images.shape[2:] == size:
        return images
    # The same as `featviz.io.resize`, which this package does not import.
    return F.interpolate(images, size, mode="bilinear", antialias=True)
