"""Measure the receptive fields of feature maps by propagating NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featviz.interfaces import Size

if TYPE_CHECKING:
    from featviz.network.layers import Layer


@dataclass(frozen=True)
class ReceptiveField:
    """What one place of a feature map sees of the image.

    Args:
        px: side of the receptive field; `None` means that it reaches the whole image.
        stride: px from one place to the next.
    """

    px: int | None
    stride: int


def receptive_fields(
    run: Callable[[Tensor, Callable[[str, Tensor], None]], None], table: dict[str, Layer], size: Size, channels: int
) -> dict[str, ReceptiveField]:
    """Measure the receptive field and stride of every feature map.

    A pixel that is not a number spoils exactly the places that see it, through any kind of layer. One image for
    each phase of the largest stride: the spoiled places of them all, counted along a side, add up to the field.

    Args:
        run: runs the network on images, and calls back with each layer's name and output.
        table: the layers.
        size: height and width in px of the images to measure on.
        channels: of the images.
    """
    strides = {name: layer.stride for name, layer in table.items() if layer.stride}
    if not strides:
        return {}
    phases = max(strides.values())
    spoiled: dict[str, list[Tensor]] = {name: [] for name in strides}

    def note(name: str, tensor: Tensor) -> None:
        if name in strides:
            spoiled[name].append(tensor.movedim(table[name].layout.channel, 1).isnan().any(1).any(1).cpu())

    middle = [side // 2 for side in size]
    for phase in range(phases):
        image = torch.zeros(1, channels, *size)
        image[0, :, middle[0] + phase - phases // 2, middle[1] + phase - phases // 2] = math.nan
        run(image, note)
    fields = {}
    for name, stride in strides.items():
        hit = torch.cat(spoiled[name])
        clipped = bool(hit[:, 0].any() or hit[:, -1].any())
        fields[name] = ReceptiveField(None if clipped else round(hit.sum().item() * stride / phases), stride)
    return fields
