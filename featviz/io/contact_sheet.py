"""Several pictures on one page."""

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
"""Px between pictures."""
PAPER, INK = (255, 255, 255), (40, 40, 40)
ROW = 6
"""As many pictures stand in one row: they may be a series."""
MIN_LABELLED = 96
"""Narrower pictures are enlarged, or their labels would not fit."""


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "h w rgba"]], labels: Sequence[str] = (), *, columns: int | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Lay pictures of one size out in rows, each with its label below.

    Args:
        labels: one for each picture, or none; long ones are cut.
        columns: `None` makes the page a little wider than high.

    Raises:
        SettingError: there are no pictures.
    """
    if not pictures:
        raise SettingError("no pictures to lay out; give one or more")
    height, width = pictures[0].shape[:2]
    zoom = math.ceil(MIN_LABELLED / width) if labels else 1
    height, width = height * zoom, width * zoom
    points = max(11, min(18, width // 9))
    font = ImageFont.load_default(points)
    strip = round(points * 1.6) if labels else 0
    columns = (
        columns
        or (len(pictures) if len(pictures) <= ROW else 0)
        or min(len(pictures), math.ceil(math.sqrt(len(pictures) * 1.6 * (height + strip) / width)))
    )
    rows = math.ceil(len(pictures) / columns)
    page = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + strip + GAP)), PAPER)
    pen = ImageDraw.Draw(page)
    for i, picture in enumerate(pictures):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + strip + GAP)
        opaque = over_checks(picture) if picture.shape[2] == 4 else picture
        page.paste(Image.fromarray(opaque).resize((width, height), Image.Resampling.NEAREST), (x, y))
        if labels:
            middle = x + width / 2, y + height + strip / 2
            pen.text(middle, _fit(labels[i], font, width), fill=INK, font=font, anchor="mm")
    return np.asarray(page)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut a label that is too long."""

    def widths(ending: str) -> Callable[[int], float]:
        return lambda count: font.getlength(text[:count] + ending)

    counts = range(len(text) + 1)
    if bisect_right(counts, float(width), key=widths("")) > len(text):
        return text
    return text[: bisect_right(counts, float(width), key=widths("…")) - 1] + "…"
