"""Volumes and clips in notebooks and on pages: self-contained HTML, without scripts of others."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from jaxtyping import Float, UInt8

from featviz.io.gif import encode_gif
from featviz.io.volumes import AXES, filmstrip, slices

BLOCK = '<figure style="margin:0 0 12px;font:13px sans-serif"><figcaption>{label}</figcaption>{content}</figure>'
MAX_PNG = 1_000_000
"""Largest number of pixels of a column of slices as PNG, in which every voxel is exact; JPEG is smaller."""
MAX_JPEG_SIDE = 65_500
"""Largest side in px of a JPEG."""
SCROLL = "this.parentNode.firstElementChild.firstElementChild.style.marginTop=-this.value*{height}+'px'"
"""Move the column of slices behind its window."""


def volume_html(volume: Float[np.ndarray, "c d h w"], label: str) -> str:
    """Return HTML that shows a volume as slices across each axis, each with a slider.

    Args:
        volume: As for `volume_picture`.
        label: What it shows.
    """
    return BLOCK.format(label=html.escape(label), content="".join(_scroller(volume, axis) for axis in range(3)))


def clip_html(frames: list[UInt8[np.ndarray, "h w 3"]], rate: float, label: str) -> str:
    """Return HTML that shows a clip as an animated GIF, enlarged if it is small.

    Args:
        frames: RGB of 8 bits.
        rate: Frames per second.
        label: What it shows.
    """
    zoom = max(1, round(240 / max(frames[0].shape[:2])))
    height, width = (zoom * side for side in frames[0].shape[:2])
    source = base64.b64encode(encode_gif(frames, rate)).decode()
    image = (
        f'<img src="data:image/gif;base64,{source}" alt="{html.escape(label)}" width="{width}" height="{height}" '
        'style="image-rendering:pixelated;max-width:100%;height:auto">'
    )
    return BLOCK.format(label=html.escape(label), content=image)


def _scroller(volume: Float[np.ndarray, "c d h w"], axis: int) -> str:
    """Return a window onto one column of all slices across an axis, and a slider that moves the column behind it."""
    shown = slices(volume, axis)
    height, width = shown[0].shape[:2]
    data, middle = io.BytesIO(), len(shown) // 2
    strip = filmstrip(shown)
    kind = "PNG" if strip.width * strip.height <= MAX_PNG or strip.height > MAX_JPEG_SIDE else "JPEG"
    strip.save(data, kind)
    source = base64.b64encode(data.getvalue()).decode()
    window = f"display:block;overflow:hidden;width:{width}px;height:{height}px"
    column = f"display:block;max-width:none;margin:{-middle * height}px 0 0"
    return (
        '<span style="display:inline-block;margin:4px 8px 0 0;vertical-align:bottom">'
        f'<span style="{window}"><img src="data:image/{kind.lower()};base64,{source}" alt="slices across {AXES[axis]}" '
        f'style="{column}"></span>'
        f'<input type="range" min="0" max="{len(shown) - 1}" value="{middle}" style="width:{max(60, width - 44)}px" '
        f'aria-label="slice across {AXES[axis]}" oninput="{SCROLL.format(height=height)}">'
        f" {AXES[axis]}</span>"
    )
