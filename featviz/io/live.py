"""Show the images of a render as they form, in the output of a notebook cell."""

from __future__ import annotations

import base64
import math
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from featviz.interfaces import ImageProgress
from featviz.io.contact_sheet import contact_sheet
from featviz.io.images import over_checks, to_bytes

MIN_INTERVAL = 1 / 3
"""Shortest time between two updates, in seconds."""
MAX_SHARE = 0.01
"""Largest share of the time of a render that updates take: after a slow one, the next one comes later."""
MAX_SIDE = 960
"""Longer side in px to which the contact sheet is downsampled."""
MAX_COLUMNS = 6
"""Up to this many images are laid out in one row."""
MAX_IMAGES = 64
"""Largest number of images on the contact sheet; a note counts the others."""
MAX_PICTURES = 8
"""Largest number of signals or volumes on it, each of which takes more time and space."""


class LiveImages(ImageProgress):
    """Show a contact sheet of the images, and the progress below it, in the output of a notebook cell.

    The output is updated in place. `close` replaces the images by one line of text: the notebook shows a `Rendering`
    that ends a cell by itself, and the file of the notebook does not store the images twice.

    Args:
        label: Text before the progress.
        clock: Returns the time in seconds.
    """

    def __init__(self, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._clock = label, clock
        self._begun = self._due = clock()
        self._share = 0.0
        self._draw: Callable[[Float[Tensor, "n c *size"]], list[UInt8[np.ndarray, "h w rgba"]]] | None = None
        self._output: Any = None  # the display handle of IPython

    def __call__(self, done: int, steps: int) -> None:
        """Keep the progress for the next update."""
        self._share = done / steps if steps else 1.0

    def draw_with(self, draw: Callable[[Float[Tensor, "n c *size"]], list[UInt8[np.ndarray, "h w rgba"]]]) -> None:
        """Show pictures of signals or volumes, which have no height and width.

        Args:
            draw: Draws each result as 8-bit RGB; all pictures have one size.
        """
        self._draw = draw

    def wants_images(self, done: int, steps: int) -> bool:
        """Return whether the next update is due."""
        return self._clock() >= self._due

    def show(self, done: int, steps: int, images: Float[Tensor, "n c *size"]) -> None:
        """Update the images and the text."""
        began = self._clock()
        most = MAX_IMAGES if images.ndim == 4 else MAX_PICTURES
        left_out = len(images) - most
        text = self._text + (f"; {left_out} more images are not shown" if left_out > 0 else "")
        picture, data = "", b""
        if images.ndim == 4:
            data = _jpeg(images.numpy())
        elif self._draw is not None:
            data = _jpeg_of_pictures(self._draw(images[:most]))
        if data:  # without a way to draw signals and volumes, the text is alone
            source = base64.b64encode(data).decode()
            picture = f'<img src="data:image/jpeg;base64,{source}" alt="images so far" style="max-width: 100%">'
        self._publish({"text/html": f"{picture}<div>{text}</div>", "text/plain": text})
        now = self._clock()
        self._due = now + max(MIN_INTERVAL, (now - began) / MAX_SHARE)

    def close(self) -> None:
        """Replace the images by one line of text."""
        if self._output is not None:
            self._publish({"text/plain": self._text})

    @property
    def _text(self) -> str:
        return f"{self._label}: {self._share:.0%} in {self._clock() - self._begun:.1f} s"

    def _publish(self, data: dict[str, str]) -> None:
        if self._output is not None:
            self._output.update(data, raw=True)
            return
        from IPython.display import display

        self._output = display(data, raw=True, display_id=True)


def in_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel, whose output can be updated."""
    if "ipykernel" not in sys.modules:  # a kernel has imported it; IPython is not imported here otherwise
        return False
    from ipykernel.zmqshell import ZMQInteractiveShell
    from IPython import get_ipython

    return isinstance(get_ipython(), ZMQInteractiveShell)


def _jpeg(images: Float[np.ndarray, "n c *size"]) -> bytes:
    """Return a JPEG of the first images side by side, whose longer side has about `MAX_SIDE` px.

    The last of four channels is taken for alpha.
    """
    count = min(len(images), MAX_IMAGES)
    columns = count if count <= MAX_COLUMNS else math.ceil(math.sqrt(count * 1.6))
    channels, height, width = images.shape[1:]
    width *= 1 if channels in (1, 3, 4) else channels  # one panel each
    ratio = min(1.0, MAX_SIDE / max(columns * width, math.ceil(count / columns) * height))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    stride = max(1, int(0.5 / ratio))  # skip pixels of large images before the costlier steps; 2 per px are left
    small = images[:count, :, ::stride, ::stride]
    tiles = [_resize(to_bytes(image, alpha=channels == 4), size) for image in small]
    data = BytesIO()
    Image.fromarray(tiles[0] if count == 1 else contact_sheet(tiles, columns=columns)).save(data, "JPEG", quality=85)
    return data.getvalue()


def _jpeg_of_pictures(pictures: list[UInt8[np.ndarray, "h w rgba"]]) -> bytes:
    """Return a JPEG of pictures in one or two columns, at most `MAX_SIDE` px wide."""
    sheet = pictures[0] if len(pictures) == 1 else contact_sheet(pictures, columns=1 if len(pictures) < 4 else 2)
    height, width = sheet.shape[:2]
    ratio = min(1.0, MAX_SIDE / width)
    data = BytesIO()
    Image.fromarray(_resize(sheet, (round(width * ratio), max(1, round(height * ratio))))).save(data, "JPEG")
    return data.getvalue()


def _resize(pixels: UInt8[np.ndarray, "h w rgba"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Return RGB pixels of a width and height."""
    opaque = over_checks(pixels) if pixels.shape[2] == 4 else pixels
    image = Image.fromarray(opaque)
    return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))
