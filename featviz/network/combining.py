"""Several networks that look at the same pictures."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.network.layers import Probed
from featviz.network.network import Network


def combine(**networks: Network) -> Network:
    """Make several networks one, so that an objective can speak of them all.

    Each keeps its own normalisation, and its own size where it takes no other. Their layers are named after them:
    `first.stage2:5 - logit:star@second`.

    Args:
        networks: by the names they shall have.

    Raises:
        SettingError: fewer than two, of unlike channels, devices or precision, or one of them twice.

    >>> from featviz.network import load
    >>> combine(first=load("motifnet", device="cpu"), second=load("motifnet", weights="none", device="cpu")).channels
    3
    """
    if len(networks) < 2:
        raise SettingError("combine takes two networks or more, as combine(first=one, second=other)")
    first, *others = networks.values()
    if len({id(network.module) for network in networks.values()}) < len(networks):
        raise SettingError("networks run combine need modules of their own; copy.deepcopy(module) makes another")
    for other in others:
        kinds = [(net.channels, str(net.device), net.dtype) for net in (first, other)]
        if kinds[0] != kinds[1]:
            found = " and ".join(" ".join(map(str, kind)) for kind in kinds)
            raise SettingError(f"networks run combine need the same channels, device and precision, not {found}")
    module = _Together(networks)
    return Network(
        module,
        size=first.size,
        mean=(0.0,) * first.channels,
        std=(1.0,) * first.channels,
        heads={name: network.classes for name, network in networks.items()},
        smooth_pools=any(network.smooth_pools for network in networks.values()),
        probed=_probed(networks),
    )


def _probed(networks: dict[str, Network]) -> Probed:
    """Say of the whole what is known of its parts."""
    table, formats = {}, set()
    for name, network in networks.items():
        known = network.probed
        size = network.size if known.fixed_size else None
        formats.add(known.memory_format)
        for layer in known.table.values():
            whole = f"{name}.{layer.name}".rstrip(".")
            table[whole] = replace(layer, name=whole, layout=replace(layer.layout, size=size))
    memory_format = formats.pop() if len(formats) == 1 else torch.contiguous_format
    return Probed(table, fixed_size=False, memory_format=memory_format)


class _Together(nn.Module):
    """Runs one network after another, or only those of which a layer is asked for."""

    def __init__(self, networks: dict[str, Network]) -> None:
        super().__init__()
        self.parts = [(net.module, net.normaliser(), net.size if net.fixed_size else None) for net in networks.values()]
        for name, network in networks.items():
            if not name.isidentifier() or hasattr(self, name):
                raise SettingError(f"a network cannot be called {name!r}; give it a plain name of its own")
            self.add_module(name, network.module)

    def forward(self, images: Tensor) -> tuple[object, ...]:
        wanted = [part for part in self.parts if any(module._forward_hooks for module in part[0].modules())]
        return tuple(module(normal(_resized(images, size))) for module, normal, size in wanted or self.parts)


def _resized(images: Tensor, size: Size | None) -> Tensor:
    if size is None or images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)
