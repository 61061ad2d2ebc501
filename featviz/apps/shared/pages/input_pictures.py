"""Pictures of a network's inputs with any number of axes, for pages and sheets."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featviz.io import clip_picture, draw_lines, frames_of, slices_picture, stretch, to_bytes, zoom_of
from featviz.io.plots import BARE_ROWS

SIGNAL_WIDTH = 480
"""Width of the picture of a signal in px."""
ICON_PX = 144
"""Side of the icon of a signal in px."""
MAX_PLANES = 64
"""Largest number of slices or frames on a page; evenly spaced ones where there are more."""


def rgb(images: Float[Tensor, "n c *size"]) -> Float[Tensor, "n 3 *size"]:
    """Return images with other than three channels as grey RGB images of their mean."""
    return images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, *images.shape[2:])


def encode_webp(image: Float[Tensor, "c h w"]) -> bytes:
    """Compress an image for a page.

    Args:
        image: In [0, 1]. Of an image that is not RGB, the mean of the channels is shown in grey.

    Returns:
        The bytes of a .webp file.
    """
    pixels = (255 * rgb(image[None])[0].clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    return iio.imwrite("<bytes>", pixels, extension=".webp", quality=85)


def draw_input(image: Float[Tensor, "c *size"], axes: str, width: int = SIGNAL_WIDTH) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the lines of a signal, the middle slices of a volume, frames of a clip side by side, or an image.

    Args:
        image: In [0, 1]. Grey levels of a volume go from its lowest to its highest value.
        axes: Names of its axes, as in `InputSpec`.
        width: Width of the picture of a signal in px.

    Returns:
        8-bit RGB.

    Raises:
        OutputError: matplotlib is not installed, and the image is a signal.
    """
    if axes == "x":
        return draw_lines(image.numpy(), width=width)
    shown = rgb(image[None])[0].numpy()
    return draw_colors(stretch(shown) if axes == "zyx" else shown, axes)


def draw_colors(image: Float[np.ndarray, "3 *size"], axes: str) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image, the middle slices of a volume or frames of a clip in a row, in given colours.

    Args:
        image: RGB in [0, 1].
        axes: `"yx"`, `"zyx"` or `"tyx"`.
    """
    if axes == "zyx":
        return slices_picture(image)
    return clip_picture(image, zoom=zoom_of(image.shape[2:])) if axes == "tyx" else to_bytes(image)


def icon_pixels(image: Float[Tensor, "c *size"], axes: str) -> UInt8[np.ndarray, "h w 3"]:
    """Draw an icon: the lines of a signal, squeezed to a square, or the middle slice of a volume or frame of a clip.

    Args:
        image: In [0, 1].
        axes: `"x"`, `"zyx"` or `"tyx"`.
    """
    if axes == "x":
        few = image if len(image) <= BARE_ROWS else image.mean(0, keepdim=True)
        return draw_lines(few.numpy(), width=ICON_PX, ratio=1 / len(few))
    pictures = planes_of(image, axes)
    return pictures[len(pictures) // 2]


def planes_of(image: Float[Tensor, "c *size"], axes: str) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Return the slices of a volume across z, or the frames of a clip; at most `MAX_PLANES`, evenly spaced.

    Args:
        image: In [0, 1]. Grey levels of a volume go from its lowest to its highest value.
        axes: `"zyx"` or `"tyx"`.
    """
    shown = rgb(image[None])[0].numpy()
    some = plane_indices(shown.shape[1])
    zoom = zoom_of(shown.shape[2:])
    colors = stretch(shown) if axes == "zyx" else shown
    return [frame.repeat(zoom, 0).repeat(zoom, 1) for frame in frames_of(colors[:, some])]


def plane_indices(count: int) -> list[int]:
    """Return which of a number of slices or frames are shown: all, or `MAX_PLANES` that are evenly spaced."""
    return np.unique(np.linspace(0, count - 1, MAX_PLANES).round().astype(int)).tolist()  # type: ignore[no-any-return]


def encode_input(image: Float[Tensor, "c *size"], axes: str) -> bytes:
    """Compress an image for a page, or the picture of a signal or a volume.

    Args:
        image: In [0, 1].
        axes: Names of its axes, as in `InputSpec`.
    """
    if axes == "yx":
        return encode_webp(image)
    return encode_webp(torch.from_numpy(draw_input(image, axes).copy()).permute(2, 0, 1) / 255)
