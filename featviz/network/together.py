"""Several networks that look at the same pictures."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from featviz.errors import SettingError
from featviz.network.network import Network
from featviz.protocols import Size


def together(**networks: Network) -> Network:
    """Make several networks one, so that an objective can speak of them all.

    Each keeps its own normalisation, and its own size where it takes no other. Their layers are named after them:
    `first.stage2:5 - logit:star@second`.

    Args:
        networks: by the names they shall have.

    Raises:
        SettingError: fewer than two, of unlike channels, or on unlike devices.

    >>> from featviz.network import load
    >>> together(first=load("motifnet", device="cpu"), second=load("motifnet", weights="none", device="cpu")).channels
    3
    """
    if len(networks) < 2:
        raise SettingError("together takes two networks or more, as together(first=one, second=other)")
    first, *others = networks.values()
    for other in others:
        if (other.channels, other.device) != (first.channels, first.device):
            kinds = [f"{network.label} {network.channels} on {network.device}" for network in (first, other)]
            raise SettingError(f"networks run together need the same channels and device, not {' and '.join(kinds)}")
    return Network(
        _Together(networks),
        size=first.size,
        mean=(0.0,) * first.channels,
        std=(1.0,) * first.channels,
        heads={name: network.classes for name, network in networks.items()},
    )


class _Together(nn.Module):
    """Runs one network after another."""

    def __init__(self, networks: dict[str, Network]) -> None:
        super().__init__()
        self.eyes = [(network, network.size if network.fixed_size else None) for network in networks.values()]
        for name, network in networks.items():
            self.add_module(name, network.module)

    def forward(self, images: Tensor) -> tuple[object, ...]:
        return tuple(network.module(network.normaliser()(_resized(images, size))) for network, size in self.eyes)


def _resized(images: Tensor, size: Size | None) -> Tensor:
    if size is None or images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)
