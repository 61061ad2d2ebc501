"""Pictures as files: written aside and renamed, so that nothing is ever half-written."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from featviz.errors import OutputError, RecipeError
from featviz.io.files import check_output, write

OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
}
"""The formats that can be written, by file ending."""

OPAQUE = (".jpg", ".jpeg")
"""Those without an alpha channel."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""What Pillow calls images of so many channels."""
BROKEN = (UnidentifiedImageError, PillowImage.DecompressionBombError, OSError, SyntaxError, ValueError)
"""Pillow's words for a broken file."""
DEEP = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535, "F": 1}
"""Grey images that Pillow would cut off at 255 instead of scaling, and what white is in them."""
PAGES = ("MPO", "TIFF")
"""Formats whose further frames are pictures of their own; the first is the one that is meant."""
CHECK = 8, (255, 216)
"""Side in px and greys of the squares that stand for what is transparent."""

LONG = 500_000
"""Longer texts are not compressed: readers take a large one that unpacks from little for an attack."""

KEY, REPORT = "featviz", "featviz-report"
"""The PNG text entries that hold the recipe, and how the render went."""
EXPLAINED = '"explained"'
"""What stands in the report of a picture that says where in a photograph a score comes from."""


def to_bytes(image: Float[np.ndarray, "c h w"], *, alpha: bool = False) -> UInt8[np.ndarray, "h w2 rgba"]:
    """Turn an image in [0, 1] into 8-bit RGB or RGBA; several channels that are no colours become panels side by side.

    Args:
        image: channels first.
        alpha: the last channel is alpha.
    """
    pixels = (np.nan_to_num(image, nan=0.5).clip(0, 1) * 255).round().astype(np.uint8)
    if alpha and len(pixels) == 2:  # grey
        pixels = pixels[[0, 0, 0, 1]]
    if len(pixels) != (4 if alpha else 3):
        return np.repeat(np.concatenate(list(pixels), axis=1)[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def encode(
    pixels: UInt8[np.ndarray, "h w rgba"], ending: str, recipe: str | None = None, report: str | None = None
) -> bytes:
    """Compress a picture; only PNG keeps a recipe and a report.

    Raises:
        OutputError: the ending is no format.
    """
    if ending not in OPTIONS:
        raise OutputError(f"no format {ending!r}; give {', '.join(OPTIONS)}")
    options = dict(OPTIONS[ending])
    if pixels.shape[2] == 4 and ending in OPAQUE:
        pixels = over_checks(pixels)
    if ending == ".png":
        options["pnginfo"] = PngInfo()
        for key, text in ((KEY, recipe), (REPORT, report)):
            if text:
                options["pnginfo"].add_itxt(key, text, zip=len(text) < LONG)
    data = BytesIO()
    iio.imwrite(data, pixels, plugin="pillow", extension=ending, **options)
    return data.getvalue()


def over_checks(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a transparent picture over a checkerboard."""
    side, greys = CHECK
    rows, columns = (np.arange(length) // side for length in pixels.shape[:2])
    behind = np.where((rows[:, None] + columns) % 2, *greys)[..., None]
    share = pixels[..., 3:] / 255
    return (pixels[..., :3] * share + behind * (1 - share)).round().astype(np.uint8)


def save_picture(
    pixels: UInt8[np.ndarray, "h w rgba"], path: Path, recipe: str | None = None, report: str | None = None
) -> Path:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: the folder is missing, not writable or full, or the file's ending is no format.
    """
    check_output(path)
    try:
        data = encode(pixels, path.suffix.lower(), recipe, report)
    except (ValueError, OSError) as error:  # Pillow's words for a size that a format does not hold
        height, width = pixels.shape[:2]
        raise OutputError(f"cannot write {width} x {height} px as {path.suffix}; end the name in .png") from error
    write(path, data)
    return path


def read_recipe(path: Path | bytes) -> str:
    """Read the recipe inside a PNG, which may be given as the bytes in it.

    Raises:
        OutputError: the file is missing or no picture.
        RecipeError: the picture holds no recipe.
    """
    with opened(path) as picture:
        text = getattr(picture, "text", {})
    recipe = text.get(KEY)
    if not recipe and EXPLAINED in text.get(REPORT, ""):
        raise RecipeError(f"{_called(path)} explains a photograph, and is not drawn; run featviz explain again")
    if not recipe:
        raise RecipeError(f"{_called(path)} holds no recipe; PNG files of renders and dreams do")
    return str(recipe)


def read_report(path: Path | bytes) -> dict[str, Any]:
    """Read inside a PNG how its render went; nothing where it does not say.

    Raises:
        OutputError: the file is missing or no picture.
    """
    with opened(path) as picture:
        report = getattr(picture, "text", {}).get(REPORT)
    return dict(json.loads(report)) if report else {}


def read_image(path: str | Path, channels: int = 3) -> Float[np.ndarray, "c h w"]:
    """Read an image as [0, 1], upright: grey, RGB, or RGBA, of 8 or 16 bits, or with a palette.

    Raises:
        OutputError: the file is missing, broken, animated or no picture, or the channels are not 1, 3 or 4.
    """
    if channels not in MODES:
        raise OutputError(f"an image file gives 1, 3 or 4 channels, not {channels}; give a tensor instead")
    with opened(Path(path)) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format not in PAGES:
            raise OutputError(
                f"{path} is animated, {frames} frames; give a still picture; featviz dream takes it with -o FILE.gif"
            )
        try:
            upright = ImageOps.exif_transpose(picture)
        except (OSError, SyntaxError, ValueError, TypeError):  # what it says of itself is broken, not the picture
            upright = picture
        if upright.mode in DEEP:
            light = np.asarray(upright, np.float32) / DEEP[upright.mode]
            upright = PillowImage.fromarray((light.clip(0, 1) * 255).round().astype(np.uint8))
        pixels = np.asarray(upright.convert(MODES[channels]))
    return np.moveaxis(np.atleast_3d(pixels).astype(np.float32) / 255, -1, 0)


def opened(path: Path | bytes) -> PillowImage.Image:
    """Open a picture, or the bytes of one, and read it.

    Raises:
        OutputError: the file is missing, broken or no picture.
    """
    picture = None
    try:
        picture = PillowImage.open(BytesIO(path) if isinstance(path, bytes) else path)
        picture.load()
    except FileNotFoundError as error:
        raise OutputError(f"no file {_called(path)}") from error
    except BROKEN as error:
        if picture is not None:
            picture.close()
        if "truncated" in str(error):
            raise OutputError(f"{_called(path)} breaks off before its end; was it copied whole?") from error
        raise OutputError(f"cannot read {_called(path)} as a picture; give a PNG, JPEG or WebP file") from error
    return picture


def _called(path: Path | bytes) -> str:
    return "what is there" if isinstance(path, bytes) else str(path)
