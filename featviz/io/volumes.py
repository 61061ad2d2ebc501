"""Pictures of volumes: three orthogonal slices and a projection, and slices to scroll through in HTML."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from featviz.io.images import to_bytes

PANEL_SIDE = 160
"""Slices are enlarged by a whole factor, until the longest side has about as many px."""
GAP, PAGE = 6, 255
"""Space between panels in px, and its grey level."""
MAX_SLICES = 64
"""Largest number of slices along one axis in HTML; evenly spaced ones where there are more."""
AXES = ("z", "y", "x")
"""Names of the axes of a volume."""


def stretch(volume: Float[np.ndarray, "c d h w"]) -> Float[np.ndarray, "c d h w"]:
    """Return a volume in grey levels from its lowest value, black, to its highest one, white.

    Args:
        volume: Any numbers.
    """
    finite = volume[np.isfinite(volume)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return np.asarray((volume - low) / (high - low) if high > low else np.full_like(volume, 0.5), np.float32)


def volume_picture(volume: Float[np.ndarray, "c d h w"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draw the middle slices across z, y and x, and the maximum along z, side by side.

    Grey levels go from the lowest to the highest value of the volume.

    Args:
        volume: One channel, which is grey; three, which are colours; or others, which are panels one below the other.

    Returns:
        8-bit RGB, (height, width, 3).
    """
    shown = stretch(volume)
    return _row([*middle_slices(shown), _pixels(shown.max(1), zoom_of(volume.shape[1:]))])


def slices_picture(volume: Float[np.ndarray, "c d h w"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draw the middle slices across z, y and x side by side, enlarged as in `volume_picture`.

    Args:
        volume: As for `volume_picture`, in [0, 1].
    """
    return _row(middle_slices(volume))


def middle_slices(volume: Float[np.ndarray, "c d h w"]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return the middle slices across z, y and x, enlarged as in `volume_picture`.

    Args:
        volume: As for `volume_picture`, in [0, 1].
    """
    middle = [np.take(volume, side // 2, axis) for axis, side in enumerate(volume.shape[1:], 1)]
    return [_pixels(each, zoom_of(volume.shape[1:])) for each in middle]


def slices(volume: Float[np.ndarray, "c d h w"], axis: int) -> list[UInt8[np.ndarray, "h2 w2 3"]]:
    """Return the slices of a volume across an axis, at most `MAX_SLICES`, enlarged as in `volume_picture`.

    Args:
        volume: As for `volume_picture`.
        axis: 0, 1 or 2 for z, y or x.
    """
    shown = stretch(volume)
    some = np.unique(np.linspace(0, volume.shape[1 + axis] - 1, MAX_SLICES).round().astype(int))
    return [_pixels(np.take(shown, i, 1 + axis), zoom_of(volume.shape[1:])) for i in some]


def zoom_of(size: tuple[int, ...]) -> int:
    """Return the factor by which slices of a volume are enlarged."""
    return max(1, round(PANEL_SIDE / max(size)))


def _row(panels: list[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return panels side by side, centred."""
    height = max(len(panel) for panel in panels)
    rows = [_centre(panel, height) for panel in panels]
    gap = np.full((height, GAP, 3), PAGE, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], 1)


def _pixels(image: Float[np.ndarray, "c h w"], zoom: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return a slice as RGB; channels that are no colours one below the other."""
    if len(image) not in (1, 3):
        image = np.concatenate(list(image), 0)[None]
    return to_bytes(image).repeat(zoom, 0).repeat(zoom, 1)


def _centre(panel: UInt8[np.ndarray, "h w 3"], height: int) -> UInt8[np.ndarray, "h2 w 3"]:
    """Return a panel of a height, with the colour of the page above and below it."""
    above = (height - len(panel)) // 2
    return np.pad(panel, ((above, height - len(panel) - above), (0, 0), (0, 0)), constant_values=PAGE)


def filmstrip(pictures: list[UInt8[np.ndarray, "h w 3"]]) -> Image.Image:
    """Return pictures of one size in one column, as one image, for a page that shows one at a time."""
    return Image.fromarray(np.concatenate(pictures, 0))
