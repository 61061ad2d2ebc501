"""Measure the receptive fields of feature maps by propagating NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featviz.interfaces import Size

MAX_PASS_PIXELS = 8 * 224**2
"""Number of pixels of the images that run at once."""


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image on which one position of a feature map depends.

    Args:
        px: Width of the receptive field in px; `None` if it reaches the border of the image, which clips it. Of volumes
            and video it is that along the last axis.
        stride: Distance of neighbouring positions in px.
        sides: Lengths of the receptive field along each axis of volumes and video; empty for others.
    """

    px: int | None
    stride: int
    sides: tuple[int | None, ...] = ()

    def __str__(self) -> str:
        """Return its length in px, or those along each axis where they differ; "all" where it is clipped."""
        sides = self.sides or (self.px,)
        return "x".join(str(side or "all") for side in (sides if len(set(sides)) > 1 else sides[:1]))


Columns = Callable[[str, Tensor], None]
"""Called with a layer's name and its output, `(n, channel, *position)`, columns last."""


def receptive_fields(
    run: Callable[[Float[Tensor, "n c *size"], Columns], None],
    strides: Mapping[str, int],
    size: Size,
    channels: int,
    axis: int | None = None,
) -> dict[str, ReceptiveField]:
    """Measure the receptive field and stride of feature maps.

    One column of an otherwise black image is NaN. NaN survives sums, products (even with a weight of 0), rectifiers and
    maximum pools, so exactly those columns of a feature map become NaN whose receptive field contains that column. No
    formula per kind of layer is needed, and branches and shortcuts need no special case. Because the column is NaN from
    top to bottom, the image can be a thin strip.

    Args:
        run: Runs the network on images in [0, 1], and calls back with each layer's name and output.
        strides: Distance in px of neighbouring columns, by layer name.
        size: Length in px of each axis of the images on which to measure.
        channels: Number of channels of the images.
        axis: Index of the axis along which to measure, whose planes then are the columns; `None` for the last one.

    Returns:
        The receptive fields by layer name. Layers that did not run are left out.
    """
    if not strides:
        return {}
    # How many columns of a map see the NaN depends on where it lies between two columns: field / stride, rounded up
    # or down. Therefore it takes as many consecutive places as the largest stride has px. Over one stride, each of the
    # field's px is hit exactly once, so the counts add up to the field; over `phases` px, to phases / stride times the
    # field.
    phases = max(strides.values())
    nan_columns: dict[str, list[Tensor]] = {}

    def note(name: str, tensor: Tensor) -> None:
        hit = tensor.isnan().any(1)
        hit = hit if axis is None else hit.movedim(1 + axis, -1)
        nan_columns.setdefault(name, []).append((hit.flatten(1, -2).any(1) if hit.ndim > 2 else hit).cpu())

    images = torch.zeros(phases, channels, *size)
    columns = images.movedim(-1 if axis is None else 2 + axis, -1)  # a view
    first = columns.shape[-1] // 2 - phases // 2
    for phase in range(phases):
        columns[phase, ..., first + phase] = math.nan
    for some in images.split(max(1, MAX_PASS_PIXELS // math.prod(size))):
        run(some, note)
    fields = {}
    for name, hits in nan_columns.items():
        hit, stride = torch.cat(hits), strides[name]
        clipped = bool(hit[:, 0].any() or hit[:, -1].any())
        fields[name] = ReceptiveField(None if clipped else _width(hit, stride), stride)
    return fields


def _width(hit: Bool[Tensor, "phases columns"], stride: int) -> int:
    """Return the width of the field, given which columns of a map see the NaN at consecutive places."""
    count = round(hit.sum().item() * stride / len(hit))
    offsets = {phase - stride * column for phase, column in hit.nonzero().tolist()}
    # Dilated convolutions skip columns, so the field is wider than its number of columns. Where the map is no regular
    # grid, as after upsampling by another factor, there are more offsets than columns; then the mean width remains.
    return max(offsets) - min(offsets) + 1 if offsets and len(offsets) == count else count
