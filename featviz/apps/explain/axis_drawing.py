"""Draw attribution maps of signals along their lines, and those of volumes and video over slices and frames."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from featviz.apps.explain.drawing import NEGATIVE_COLOR, POSITIVE_COLOR, class_color, rgb, tint
from featviz.io import to_bytes

WIDTH, ROW_RATIO, MARGIN = 480, 0.25, 8
"""Width of the picture of a signal in px, height of the row of each channel as a share of it, and the space in px above
and below the lines."""
SUPERSAMPLING = 3
"""Lines are drawn larger by this factor and reduced, which smooths their edges."""
MAX_ROWS = 8
"""Largest number of channels of a signal that are drawn; of more, the mean is drawn."""
LINE_COLOR = (0.45, 0.45, 0.45)
"""RGB of a line where nothing contributes."""
BAND_OPACITY = 0.3
"""Opacity of the bands behind a line at full strength."""
FRAMES = 6
"""Largest number of frames of a clip that are drawn, evenly spaced."""
GAP, PAGE = 6, 255
"""Space between slices or frames in px, and its grey level."""
SLICE_SIDE = 160
"""Slices and frames are enlarged by a whole factor to about this longest side, in px."""


def draw_signal(
    image: Float[Tensor, "c length"],
    strength: Float[Tensor, " length"],
    labels: Int[Tensor, " length"] | None = None,
    class_count: int = 0,
    *,
    width: int = WIDTH,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the lines of a signal, coloured by contribution, with bands of the same colour behind them.

    Args:
        image: One line per channel, below each other; all have the same scale.
        strength: Contribution of each sample, 1 or -1 at full colour.
        labels: Class of each sample, to use the colours of classes; `None` for red and blue.
        class_count: Number of classes.
        width: Width of the picture in px.

    Returns:
        8-bit RGB.
    """
    wide, row_height = SUPERSAMPLING * width, round(ROW_RATIO * width)
    lines = image if len(image) <= MAX_ROWS else image.mean(0, keepdim=True)
    colors, weight = _colors(strength, labels, class_count), strength.abs().clamp(max=1) ** 0.75
    bands = torch.lerp(torch.ones(()), colors, BAND_OPACITY * weight[:, None])
    at = torch.linspace(0, len(strength) - 1, wide).round().long()
    page = Image.fromarray(
        to_bytes(bands[at].T[:, None].expand(-1, SUPERSAMPLING * row_height * len(lines), -1).numpy())
    )
    pen, low, high = ImageDraw.Draw(page), lines.min().item(), lines.max().item()
    inks = (255 * torch.lerp(torch.tensor(LINE_COLOR), colors, weight[:, None])).round().int().tolist()
    x = torch.linspace(0, wide - 1, len(strength)).tolist()
    for row, line in enumerate(lines):
        share = (line - low) / (high - low) if high > low else torch.full_like(line, 0.5)
        y = (SUPERSAMPLING * (row * row_height + MARGIN + (1 - share) * (row_height - 2 * MARGIN))).tolist()
        for i in range(len(x) - 1):
            pen.line((x[i], y[i], x[i + 1], y[i + 1]), fill=tuple(inks[i]), width=2 * SUPERSAMPLING)
    return np.asarray(page.resize((width, row_height * len(lines)), Image.Resampling.LANCZOS))


def draw_volume(
    image: Float[Tensor, "c d h w"],
    strength: Float[Tensor, "d h w"],
    labels: Int[Tensor, "d h w"] | None = None,
    class_count: int = 0,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draw the middle slices of a volume across z, y and x side by side, tinted by contribution.

    Args:
        image: In [0, 1]; grey levels go from its lowest to its highest value.
        strength: Contribution of each voxel, 1 or -1 at full colour.
        labels: Class of each voxel, to use the colours of classes; `None` for red and blue.
        class_count: Number of classes.

    Returns:
        8-bit RGB.
    """
    low, high = image.min(), image.max()
    grey = (image - low) / (high - low).clamp(min=1e-12)
    cuts = [(axis, side // 2) for axis, side in enumerate(strength.shape)]
    return _row([_slice(grey, strength, labels, class_count, axis, at) for axis, at in cuts])


def draw_clip(
    image: Float[Tensor, "c t h w"],
    strength: Float[Tensor, "t h w"],
    labels: Int[Tensor, "t h w"] | None = None,
    class_count: int = 0,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draw some frames of a clip in a row, tinted by contribution; arguments as for `draw_volume`."""
    times = np.unique(np.linspace(0, len(strength) - 1, min(FRAMES, len(strength))).round().astype(int)).tolist()
    return _row([_slice(image, strength, labels, class_count, 0, at) for at in times])


def draw(
    image: Float[Tensor, "c *size"],
    strength: Float[Tensor, "*size"],
    axes: str,
    labels: Int[Tensor, "*size"] | None = None,
    class_count: int = 0,
    *,
    width: int = WIDTH,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a signal, a volume or a clip with a map.

    Args:
        image: In [0, 1].
        strength: Contribution of each px, 1 or -1 at full colour.
        axes: Names of its axes, as in `InputSpec`.
        labels: Class of each px, to use the colours of classes; `None` for red and blue.
        class_count: Number of classes.
        width: Width of the picture of a signal in px.
    """
    if axes == "x":
        return draw_signal(image, strength, labels, class_count, width=width)
    return (draw_volume if axes == "zyx" else draw_clip)(image, strength, labels, class_count)


def plain(image: Float[Tensor, "c *size"], axes: str, width: int = WIDTH) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a signal, a volume or a clip without a map, as large as with one.

    Args:
        image: In [0, 1].
        axes: Names of its axes, as in `InputSpec`.
        width: Width of the picture of a signal in px.
    """
    nothing = torch.zeros(image.shape[1:])
    if axes == "x":
        return draw_signal(image, nothing, width=width)
    shown = rgb(image[None])[0]
    if axes == "tyx":
        times = np.unique(np.linspace(0, image.shape[1] - 1, min(FRAMES, image.shape[1])).round().astype(int)).tolist()
        return _row([_pixels(shown[:, at]) for at in times])
    grey = (shown - shown.min()) / (shown.max() - shown.min()).clamp(min=1e-12)
    return _row([_pixels(grey.select(axis + 1, side // 2)) for axis, side in enumerate(nothing.shape)])


def _slice(
    image: Tensor, strength: Tensor, labels: Tensor | None, class_count: int, axis: int, at: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw one slice across an axis."""
    own = None if labels is None else labels.select(axis, at)[None]
    return _pixels(tint(image.select(axis + 1, at)[None], strength.select(axis, at)[None, None], own, class_count)[0])


def _pixels(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    factor = max(1, round(SLICE_SIDE / max(image.shape[1:])))
    return to_bytes(image.numpy()).repeat(factor, 0).repeat(factor, 1)


def _row(pictures: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return pictures side by side, centred."""
    height = max(len(each) for each in pictures)
    gap, parts = np.full((height, GAP, 3), PAGE, np.uint8), []
    for each in pictures:
        above = (height - len(each)) // 2
        padding = ((above, height - len(each) - above), (0, 0), (0, 0))
        parts += [np.pad(each, padding, constant_values=PAGE), gap]
    return np.concatenate(parts[:-1], 1)


def _colors(strength: Tensor, labels: Tensor | None, class_count: int) -> Float[Tensor, "length 3"]:
    """Return the colour of each sample at full strength."""
    if labels is None:
        return torch.where(strength[:, None] > 0, torch.tensor(POSITIVE_COLOR), torch.tensor(NEGATIVE_COLOR))
    return torch.tensor([class_color(i, class_count) for i in range(class_count)])[labels]
