"""Animated GIF images."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

GIF = ".gif"
"""Ending of animated images, whose comment holds the recipe."""
MIN_FRAME_MS = 20
"""Shortest duration of a frame in ms: browsers show frames of less at a tenth of the speed."""


def encode_gif(frames: Iterable[UInt8[np.ndarray, "h w 3"]], rate: float, comment: bytes = b"") -> bytes:
    """Return frames as an animated GIF that repeats forever.

    Args:
        frames: RGB of 8 bits, at least one. Each is compressed before the next one is taken.
        rate: Frames per second. GIF stores hundredths of a second.
        comment: Any text; none if empty.
    """
    pictures = map(Image.fromarray, frames)
    first, data = next(pictures), io.BytesIO()
    options: dict[str, Any] = {"duration": max(MIN_FRAME_MS, 1000 / rate), "loop": 0}
    options |= {"comment": comment} if comment else {}
    # Pillow goes through the others one by one, so they need not be a list.
    first.save(data, "GIF", save_all=True, append_images=pictures, **options)
    return data.getvalue()
