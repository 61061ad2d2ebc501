"""Draw attribution maps over images, volumes and clips and along signals, in the colours of their legend."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featviz.apps.shared.pages.input_pictures import SIGNAL_WIDTH, draw_colors
from featviz.io import draw_lines, stretch, to_bytes, wrap

POSITIVE_COLOR, NEGATIVE_COLOR = (0.85, 0.10, 0.05), (0.05, 0.25, 0.85)
"""RGB of positive and negative contributions."""
FADE_TO_WHITE = 0.55
"""How far the grey image under the colours is faded to white, in [0, 1]."""
MIN_SHORTER_SIDE = 192
"""Shorter side in px below which images are enlarged."""
CLASS_SATURATION, CLASS_BRIGHTNESS = 0.85, 0.9
"""HSV saturation and value of the colours of classes."""
LINE_COLOR, BAND_OPACITY = (0.45, 0.45, 0.45), 0.3
"""RGB of the line of a signal where nothing contributes, and opacity of the bands behind it at full strength."""
LEGEND_MARGIN, BAR_WIDTH = 8, 120
"""Distance of a legend from the edge and the width of its colour bar, in px."""


def tint(
    images: Float[Tensor, "n c *size"],
    strength: Float[Tensor, "n 1 *size"],
    labels: Int[Tensor, "n *size"] | None = None,
    class_count: int = 0,
) -> Float[Tensor, "n 3 *size"]:
    """Colour images, which are shown in pale grey.

    Args:
        images: In [0, 1].
        strength: Contribution of each pixel, 1 or -1 at full colour: > 0 in red, < 0 in blue.
        labels: Class of each pixel, to use the colours of classes instead; `None` for red and blue.
        class_count: Number of classes.

    Returns:
        RGB images in [0, 1].
    """
    grey = images.mean(1, keepdim=True)
    pale = torch.lerp(grey.expand(-1, 3, *grey.shape[2:]), torch.ones(()), FADE_TO_WHITE)
    color = _colors(strength[:, 0], labels, class_count)
    # The exponent < 1 makes weak contributions visible.
    return torch.lerp(pale, color.expand_as(pale), 0.9 * strength.abs() ** 0.75)


def draw(
    image: Float[Tensor, "c *size"],
    strength: Float[Tensor, "*size"],
    axes: str,
    labels: Int[Tensor, "*size"] | None = None,
    class_count: int = 0,
    *,
    width: int = SIGNAL_WIDTH,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a map along the lines of a signal, or over the middle slices of a volume or the frames of a clip.

    The lines of a signal are coloured by contribution, with bands of the same colour behind them.

    Args:
        image: In [0, 1]. Grey levels of a volume go from its lowest to its highest value.
        strength: Contribution of each px, 1 or -1 at full colour.
        axes: Names of its axes, as in `InputSpec`.
        labels: Class of each px, to use the colours of classes; `None` for red and blue.
        class_count: Number of classes.
        width: Width of the picture of a signal in px.

    Returns:
        8-bit RGB.

    Raises:
        OutputError: matplotlib is not installed, and the image is a signal.
    """
    own = None if labels is None else labels[None]
    if axes == "x":
        color, weight = _colors(strength[None], own, class_count)[0].T, strength.abs().clamp(max=1)[:, None] ** 0.75
        bands = torch.lerp(torch.ones(()), color, BAND_OPACITY * weight)
        inks = torch.lerp(torch.tensor(LINE_COLOR), color, weight)
        return draw_lines(image.numpy(), inks.numpy(), bands.numpy(), width=width)
    shown = torch.from_numpy(stretch(image.numpy())) if axes == "zyx" else image
    return draw_colors(tint(shown[None], strength[None, None], own, class_count)[0].numpy(), axes)


def class_color(i: int, count: int) -> tuple[float, float, float]:
    """Return the RGB colour of class i of several, in [0, 1]: hues are spread evenly."""
    return colorsys.hsv_to_rgb(i / max(count, 1), CLASS_SATURATION, CLASS_BRIGHTNESS)


def enlarged(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return an image as 8-bit RGB, enlarged by a whole factor if its shorter side is small."""
    factor = math.ceil(MIN_SHORTER_SIDE / min(image.shape[-2:]))
    return to_bytes(image.repeat_interleave(factor, 1).repeat_interleave(factor, 2).numpy())


def with_class_names(overlay: UInt8[np.ndarray, "h w 3"], class_names: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Write the class names into the upper left corner, each in its colour."""
    if not class_names:
        return overlay
    page = Image.fromarray(overlay)
    pen, points = ImageDraw.Draw(page), max(9, overlay.shape[1] // 18)
    for i, name in enumerate(class_names):
        color = tuple(round(255 * part) for part in class_color(i, len(class_names)))
        font, corner = ImageFont.load_default(points), (4, 2 + i * points * 1.3)
        pen.text(corner, name, fill=color, font=font, stroke_width=2, stroke_fill=(255, 255, 255))
    return np.asarray(page)


def with_legend(sheet: UInt8[np.ndarray, "h w 3"], text: str) -> UInt8[np.ndarray, "h2 w 3"]:
    """Add a colour bar, from what lowers the score most to what raises it most, and text below a sheet.

    Args:
        sheet: 8-bit RGB.
        text: What the legend says beside the colours.
    """
    width = sheet.shape[1]
    points = max(13, min(18, width // 60))
    font, line = ImageFont.load_default(points), round(1.5 * points)
    lines = wrap(text, font, width - 2 * LEGEND_MARGIN)
    legend = Image.new("RGB", (width, line * (1 + len(lines)) + 2 * LEGEND_MARGIN), "white")
    strength = torch.linspace(-1, 1, min(BAR_WIDTH, width // 3)).expand(1, 1, points, -1)
    bar = Image.fromarray(to_bytes(tint(torch.ones_like(strength), strength)[0].numpy()))
    x = 2 * LEGEND_MARGIN + round(font.getlength("lowers"))
    legend.paste(bar, (x, LEGEND_MARGIN + 2))
    pen = ImageDraw.Draw(legend)
    pen.text((LEGEND_MARGIN, LEGEND_MARGIN), "lowers", fill="black", font=font)
    pen.text((x + bar.width + LEGEND_MARGIN, LEGEND_MARGIN), "raises the score", fill="black", font=font)
    for i, words in enumerate(lines, 1):
        pen.text((LEGEND_MARGIN, LEGEND_MARGIN + line * i), words, fill="black", font=font)
    return np.concatenate([sheet, np.asarray(legend)])


def _colors(
    strength: Float[Tensor, "n *size"], labels: Int[Tensor, "n *size"] | None, class_count: int
) -> Float[Tensor, "n 3 *size"]:
    """Return the colour of each px at full strength."""
    if labels is None:
        signs = torch.tensor([NEGATIVE_COLOR, POSITIVE_COLOR])
        return signs[(strength > 0).long()].movedim(-1, 1)
    return torch.tensor([class_color(i, class_count) for i in range(class_count)])[labels].movedim(-1, 1)
