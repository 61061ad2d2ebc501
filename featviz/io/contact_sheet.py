"""Contact sheets: several images on one page, in rows, with labels."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from featviz.errors import SettingError
from featviz.io.images import over_checks

GAP = 8
"""Space between images in px."""
BACKGROUND, LABEL_COLOR, TILE_COLOR = (255, 255, 255), (40, 40, 40), (240, 238, 235)
SINGLE_ROW = 6
"""Up to this many images are laid out in one row, since they may be a series."""
MIN_LABELLED_WIDTH = 96
"""Narrower images with labels are enlarged, since the labels would not fit."""


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "h w rgba"]], labels: Sequence[str] = (), *, columns: int | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Lay out images of one size in rows, each with its label below it.

    Args:
        images: 8-bit RGB or RGBA images of the same height and width. Transparency is shown as a checkerboard.
        labels: One per image, or none. Labels that are too long are cut.
        columns: Number of columns, >= 1; `None` for one row of up to 6 images, and otherwise for a page that is a
            little wider than high.

    Returns:
        The page, (height, width, 3).

    Raises:
        SettingError: There are no images.
    """
    if not images:
        raise SettingError("a contact sheet needs at least one image")
    height, width = images[0].shape[:2]
    zoom = math.ceil(MIN_LABELLED_WIDTH / width) if labels else 1
    height, width = height * zoom, width * zoom
    points = max(11, min(18, width // 9))
    font = ImageFont.load_default(points)
    label_height = round(points * 1.6) if labels else 0
    columns = columns or _column_count(len(images), height + label_height, width)
    rows = math.ceil(len(images) / columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + label_height + GAP)
    page = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(page)
    for i, image in enumerate(images):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + label_height + GAP)
        opaque = over_checks(image) if image.shape[2] == 4 else image
        page.paste(Image.fromarray(opaque).resize((width, height), Image.Resampling.NEAREST), (x, y))
        if labels:
            middle = x + width / 2, y + height + label_height / 2
            pen.text(middle, _shorten(labels[i], font, width), fill=LABEL_COLOR, font=font, anchor="mm")
    return np.asarray(page)


def text_tile(text: str, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Draw text in the place of an image, such as the reason why the image is missing.

    Args:
        text: The text. It is wrapped between words, and cut where the tile is full.
        height: Height of the tile in px.
        width: Width of the tile in px.

    Returns:
        8-bit RGB, (height, width, 3).
    """
    page = Image.new("RGB", (width, height), TILE_COLOR)
    points = max(9, min(16, width // 12))
    font = ImageFont.load_default(points)
    lines = wrap(text, font, width - 2 * GAP)[: max(1, (height - 2 * GAP) // round(points * 1.5))]
    middle = width / 2, height / 2
    ImageDraw.Draw(page).multiline_text(
        middle, "\n".join(lines), fill=LABEL_COLOR, font=font, anchor="mm", align="center", spacing=points * 0.3
    )
    return np.asarray(page)


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Break text into lines of at most a width in px, between words. A word that is longer is cut.

    Args:
        text: The text.
        font: The font in which it is drawn.
        width: Maximum width of a line in px.
    """
    lines: list[str] = []
    for word in (_shorten(word, font, width) for word in text.split()):
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _column_count(count: int, height: int, width: int) -> int:
    """Return the number of columns for cells of a height and width in px."""
    if count <= SINGLE_ROW:
        return count
    return min(count, math.ceil(math.sqrt(count * 1.6 * height / width)))


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Cut a label to a width in px, and end it in an ellipsis where it was cut."""

    def widths(ending: str) -> Callable[[int], float]:
        return lambda count: font.getlength(text[:count] + ending)

    counts = range(len(text) + 1)  # the width grows with the number of letters: find the longest that fits by bisection
    if bisect_right(counts, float(width), key=widths("")) > len(text):
        return text
    return text[: max(0, bisect_right(counts, float(width), key=widths("…")) - 1)] + "…"
