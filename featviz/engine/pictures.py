"""Pictures of results with any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featviz.engine.result_files import check_rate
from featviz.io import (
    clip_picture,
    plot_signal,
    to_bytes,
    volume_picture,
)
from featviz.network import InputSpec


def picture_of(
    image: Float[np.ndarray, "c *size"],
    values: Float[np.ndarray, "c *size"],
    spec: InputSpec,
    *,
    alpha: bool = False,
    rate: float | None = None,
) -> UInt8[np.ndarray, "h w rgba"]:
    """Draw a result: a signal as a plot, a volume as slices and a projection, a clip as a row of frames.

    Args:
        image: In [0, 1].
        values: The image in the range of the data.
        spec: The input of the network.
        alpha: Whether the last channel is alpha.
        rate: Samples per second of a signal; `None` for a time axis in samples.

    Raises:
        OutputError: matplotlib is not installed, and the result is a signal.
        SettingError: `rate` is not > 0.
    """
    check_rate(rate)
    if spec.axes == "x":
        lows, highs = spec.bounds
        return plot_signal(values, (min(lows), max(highs)), rate)
    if spec.axes == "zyx":
        return volume_picture(image)
    return clip_picture(image, alpha=alpha) if spec.axes == "tyx" else to_bytes(image, alpha=alpha)


def in_range_of_data(images: Float[Tensor, "n c *size"], spec: InputSpec) -> Float[Tensor, "n c *size"]:
    """Return images in [0, 1] in the range of the network's data. An alpha channel stays in [0, 1].

    Args:
        images: In [0, 1].
        spec: The input of the network.
    """
    return torch.cat([spec.values(images[:, : spec.channels]), images[:, spec.channels :]], 1)


def pictures_of(images: Float[Tensor, "n c *size"], spec: InputSpec) -> list[UInt8[np.ndarray, "h w rgba"]]:
    """Draw results as `picture_of` does.

    Args:
        images: In [0, 1]; a channel more than the network reads is alpha.
        spec: The input of the network.

    Raises:
        OutputError: matplotlib is not installed, and the results are signals.
    """
    numbers = zip(images.numpy(), in_range_of_data(images, spec).numpy(), strict=True)
    return [picture_of(image, values, spec, alpha=images.shape[1] > spec.channels) for image, values in numbers]


def same_size(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Bring pictures to one size: small ones are enlarged by a whole number, and centred on white.

    Args:
        pictures: RGB pixels.
    """
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    return [_centre(picture, height, width) for picture in pictures]


def _centre(picture: UInt8[np.ndarray, "_ _ 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    times = min(height // picture.shape[0], width // picture.shape[1])
    large = picture.repeat(times, 0).repeat(times, 1)
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    whole = np.full((height, width, 3), 255, np.uint8)
    whole[top : top + large.shape[0], left : left + large.shape[1]] = large
    return whole
