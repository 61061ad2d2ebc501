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
    """The part of the image on which one position of a feature map depends.

    Args:
        px: Side of the receptive field in px; `None` if it reaches the border of the image, which clips it.
        stride: Distance of neighbouring positions in px.
    """

    px: int | None
    stride: int


def receptive_fields(
    run: Callable[[Tensor, Callable[[str, Tensor], None]], None], table: dict[str, Layer], size: Size, channels: int
) -> dict[str, ReceptiveField]:
    """Measure the receptive field and stride of every feature map.

    One pixel of an otherwise black image is NaN. NaN survives sums, products (even with a weight of 0), rectifiers and
    maximum pools, so exactly those positions of a feature map become NaN whose receptive field contains the pixel. No
    formula per kind of layer is needed, and branches and shortcuts need no special case.

    Args:
        run: Runs the network on images in [0, 1], and calls back with each layer's name and output.
        table: The layers.
        size: Height and width in px of the images on which to measure.
        channels: Number of channels of the images.

    Returns:
        The receptive fields by layer name.
    """
    strides = {name: layer.stride for name, layer in table.items() if layer.stride}
    if not strides:
        return {}
    # How many columns of a map see the pixel depends on where it lies between two columns: field / stride, rounded up
    # or down. Therefore the pixel takes as many consecutive positions as the largest stride has px. Over one stride,
    # each of the field's px is hit exactly once, so the counts add up to the field; over `phases` px, to
    # phases / stride times the field.
    phases = max(strides.values())
    nan_columns: dict[str, list[Tensor]] = {name: [] for name in strides}

    def note(name: str, tensor: Tensor) -> None:
        if name in strides:
            nan_columns[name].append(tensor.movedim(table[name].layout.channel, 1).isnan().any(1).any(1).cpu())

    middle = [side // 2 for side in size]
    for phase in range(phases):
        image = torch.zeros(1, channels, *size)
        image[0, :, middle[0] + phase - phases // 2, middle[1] + phase - phases // 2] = math.nan
        run(image, note)
    fields = {}
    for name, stride in strides.items():
        hit = torch.cat(nan_columns[name])
        clipped = bool(hit[:, 0].any() or hit[:, -1].any())
        fields[name] = ReceptiveField(None if clipped else round(hit.sum().item() * stride / phases), stride)
    return fields
