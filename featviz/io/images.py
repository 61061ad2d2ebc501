"""Read and write image files, and the recipe and the report that they store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from featviz.errors import OutputError, RecipeError, warn
from featviz.io.files import IMAGE_ENDINGS, check_output, is_file, write

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level, as Pillow has them. Source: ITU-R BT.601."""
RECIPE_KEY, REPORT_KEY = "featviz", "featviz-report"
"""Names of the recipe and of the report, which says how the render went. In PNG they are text entries."""
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
"""Where JPEG and WebP store both, as JSON: the EXIF tag `UserComment`. Source: EXIF 2.32, section 4.6.5."""
ASCII_PREFIX = b"ASCII\0\0\0"
"""Start of a comment, which names its character code."""
MAX_EXIF = 65_000
"""Largest number of bytes of EXIF data that a JPEG holds, less some for its header."""
EXPLAINED_KEY = "explained"
"""First key in the report of an explanation. Explanations have no recipe."""

JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
WRITE_OPTIONS: dict[str, dict[str, Any]] = {".jpg": JPEG_OPTIONS, ".jpeg": JPEG_OPTIONS, ".webp": {"quality": 95}}
"""Pillow's options for the formats that have any, by file ending."""
OPAQUE_ENDINGS = (".jpg", ".jpeg")
"""Formats without an alpha channel."""

PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for each number of channels."""
READ_ERRORS = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
"""What Pillow raises for a file that is broken or not an image."""
WHITE_LEVELS = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535, "F": 1}
"""Value of white in greyscale modes of more than 8 bits, which Pillow would clip at 255 instead of scaling."""
ROUNDING = 1e-3
"""How far values may lie outside of black and white, as a share of white; interpolation and rounding exceed them."""
READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read, by content and not by name. JPEG includes MPO. Of Pillow's others, EPS runs a program."""
MULTI_IMAGE_FORMATS = ("MPO", "TIFF")
"""Formats whose frames are not an animation. The first frame is the photograph; others are previews or pages."""

CHECKER_SIDE, CHECKER_GREYS = 8, (255, 216)
"""Side in px and grey levels of the checkerboard behind transparent images."""

MAX_COMPRESSED_TEXT = 500_000
"""Texts of more characters are stored uncompressed: PNG readers refuse large texts that decompress from few bytes."""


def to_bytes(image: Float[np.ndarray, "c h w"], *, alpha: bool = False) -> UInt8[np.ndarray, "h w2 rgba"]:
    """Convert an image to 8 bits.

    Args:
        image: In [0, 1], channels first. NaN becomes grey.
        alpha: Whether the last channel is alpha.

    Returns:
        RGB or RGBA, channels last. Images with another number of channels become RGB with one grey panel per channel,
        side by side; grey with alpha becomes RGBA.
    """
    pixels = (np.nan_to_num(image, nan=0.5).clip(0, 1) * 255).round().astype(np.uint8)
    if alpha and len(pixels) == 2:  # grey and alpha
        pixels = pixels[[0, 0, 0, 1]]
    if len(pixels) != (4 if alpha else 3):
        return np.repeat(np.concatenate(list(pixels), axis=1)[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def over_checks(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Composite a transparent image over a checkerboard.

    Args:
        pixels: RGBA of 8 bits.

    Returns:
        RGB of 8 bits.
    """
    rows, columns = (np.arange(length) // CHECKER_SIDE for length in pixels.shape[:2])
    background = np.where((rows[:, None] + columns) % 2, *CHECKER_GREYS)[..., None]
    alpha = pixels[..., 3:] / 255
    return (pixels[..., :3] * alpha + background * (1 - alpha)).round().astype(np.uint8)


def encode(
    pixels: UInt8[np.ndarray, "h w rgba"], ending: str, recipe: str | None = None, report: str | None = None
) -> bytes:
    """Encode an image in a file format.

    Args:
        pixels: RGB or RGBA of 8 bits. Formats without alpha get a checkerboard behind it.
        ending: File ending of the format, such as `".png"`.
        recipe: Recipe as JSON; `None` for none.
        report: Report as JSON; `None` for none.

    Returns:
        The content of the file.

    Raises:
        OutputError: The format is unknown.

    Warns:
        FeatvizWarning: The recipe is too long for a JPEG, and is left out.
    """
    if ending not in IMAGE_ENDINGS:
        raise OutputError(f"the format must be one of {', '.join(IMAGE_ENDINGS)}, got {ending!r}")
    options = dict(WRITE_OPTIONS.get(ending, {}))
    if pixels.shape[2] == 4 and ending in OPAQUE_ENDINGS:
        pixels = over_checks(pixels)
    texts = {key: text for key, text in ((RECIPE_KEY, recipe), (REPORT_KEY, report)) if text}
    if ending == ".png":
        options["pnginfo"] = PngInfo()
        for key, text in texts.items():
            options["pnginfo"].add_itxt(key, text, zip=len(text) < MAX_COMPRESSED_TEXT)
    elif texts:
        options |= _exif_options(pack_texts(recipe, report), ending)
    data = BytesIO()
    iio.imwrite(data, pixels, plugin="pillow", extension=ending, **options)
    return data.getvalue()


def _exif_options(packed: bytes, ending: str) -> dict[str, PillowImage.Exif]:
    """Return Pillow's option that stores packed texts as a comment; empty where they do not fit into the format."""
    comment = ASCII_PREFIX + packed
    if ending in OPAQUE_ENDINGS and len(comment) > MAX_EXIF:
        if RECIPE_KEY in unpack_texts(packed):
            warn("the recipe is too long for a JPEG, so the image cannot be replayed; save it as .png or .webp")
        return {}
    exif = PillowImage.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = comment
    return {"exif": exif}


def save_image(
    pixels: UInt8[np.ndarray, "h w rgba"], path: Path, recipe: str | None = None, report: str | None = None
) -> Path:
    """Write an image file atomically.

    Args:
        pixels: RGB or RGBA of 8 bits.
        path: The file; its ending chooses the format.
        recipe: Recipe as JSON; `None` for none.
        report: Report as JSON; `None` for none.

    Returns:
        The file.

    Raises:
        OutputError: The folder is missing, not writable or full, the format is unknown, or it allows no image of this
            size.
    """
    check_output(path)
    try:
        data = encode(pixels, path.suffix.lower(), recipe, report)
    except (ValueError, OSError) as error:  # the image is larger than the format allows
        height, width = pixels.shape[:2]
        raise OutputError(f"cannot write {width} x {height} px as {path.suffix}; end the name in .png") from error
    write(path, data)
    return path


def read_image(path: str | Path, channels: int = 3) -> Float[np.ndarray, "c h w"]:
    """Read an image file: greyscale, RGB or RGBA, of 8 or 16 bits, or with a palette. EXIF rotation is applied.

    Args:
        path: The file.
        channels: 1 for greyscale, 3 for RGB, 4 for RGBA; the image is converted to it. Without an alpha channel,
            transparent images are laid over white.

    Returns:
        The image in [0, 1], (channels, h, w), in single precision.

    Raises:
        OutputError: The file is missing, broken, animated or not an image, or `channels` is not 1, 3 or 4.
    """
    _check_channels(channels)
    with open_image(Path(path)) as picture:
        return _still_pixels(picture, str(path), channels)


def _still_pixels(picture: PillowImage.Image, name: str, channels: int) -> Float[np.ndarray, "c h w"]:
    """Return the pixels of an image that is not animated.

    Raises:
        OutputError: The image is animated, or its values do not tell what is white.
    """
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format not in MULTI_IMAGE_FORMATS:
        raise OutputError(
            f"{name} is animated ({frames} frames); give a still image, or use featviz dream with -o FILE.gif"
        )
    if picture.format == "TIFF" and picture.mode == "I":
        raise OutputError(f"{name} has 32-bit integers, whose white level is unknown; save it with 8 or 16 bits")
    try:
        return pillow_pixels(picture, channels)
    except OutputError as error:
        raise OutputError(f"cannot read {name}: {error}") from error


def pillow_pixels(picture: PillowImage.Image, channels: int = 3) -> Float[np.ndarray, "c h w"]:
    """Return the pixels of a Pillow image, as `read_image` does.

    Args:
        picture: The image.
        channels: 1 for greyscale, 3 for RGB, 4 for RGBA.

    Returns:
        The image in [0, 1], (channels, h, w), in single precision.

    Raises:
        OutputError: `channels` is not 1, 3 or 4, or a greyscale image has values outside of the range of its mode.
    """
    _check_channels(channels)
    try:
        upright = ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, TypeError):  # broken EXIF data do not make the image unreadable
        upright = picture
    if upright.mode in WHITE_LEVELS:
        light = _light(upright)
        upright = PillowImage.fromarray((light.clip(0, 1) * 255).round().astype(np.uint8))
    if channels != 4 and upright.has_transparency_data:
        # Transparent pixels store arbitrary colors, often black; show them over white.
        over_white = PillowImage.new("RGBA", upright.size, "white")
        upright = PillowImage.alpha_composite(over_white, upright.convert("RGBA"))
    pixels = np.asarray(upright.convert(PILLOW_MODES[channels]))
    return np.moveaxis(np.atleast_3d(pixels).astype(np.float32) / 255, -1, 0)


def _light(picture: PillowImage.Image) -> Float[np.ndarray, "h w"]:
    """Return a greyscale image of more than 8 bits, with white as 1.

    Raises:
        OutputError: The image has values outside of the range of its mode.
    """
    white = WHITE_LEVELS[picture.mode]
    values = np.asarray(picture, np.float32)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= -ROUNDING * white and high <= (1 + ROUNDING) * white):
        raise OutputError(
            f"the image has values from {low:g} to {high:g}, where black is 0 and white {white}; scale them, or save "
            "it with 8 bits"
        )
    return values / white


def _check_channels(channels: int) -> None:
    if channels not in PILLOW_MODES:
        raise OutputError(f"an image file can be read as 1, 3 or 4 channels, not {channels}; give a tensor instead")


def read_recipe(path: Path | bytes | PillowImage.Image) -> str:
    """Read the recipe that is stored in an image file.

    Args:
        path: The file, its content, or a Pillow image that was opened from it.

    Returns:
        The recipe as JSON.

    Raises:
        OutputError: The file is missing or not an image.
        RecipeError: It holds no recipe.
    """
    return recipe_among(stored_texts(path), _label(path))


def recipe_among(texts: Mapping[str, str], label: str) -> str:
    """Return the recipe among the texts that are stored with a result.

    Args:
        texts: The texts by name.
        label: What the result is called in messages.

    Returns:
        The recipe as JSON.

    Raises:
        RecipeError: There is none, or the result is an explanation.
    """
    if any(str(text).startswith(f'{{"{EXPLAINED_KEY}"') for text in texts.values()):
        raise RecipeError(f"{label} is an explanation, which cannot be replayed; run featviz explain again")
    recipe = texts.get(RECIPE_KEY)
    if recipe:
        return str(recipe)
    raise RecipeError(f"{label} holds no recipe; give a file of a render, or of a dream on an image, as it was saved")


def read_report(path: Path | bytes) -> dict[str, Any]:
    """Read the report of a render that is stored in an image file.

    Args:
        path: The file, or its content.

    Returns:
        The report; empty if the file has none.

    Raises:
        OutputError: The file is missing or not an image.
    """
    report = stored_texts(path).get(REPORT_KEY)
    return dict(json.loads(report)) if report else {}


def decode_image(data: bytes, channels: int = 3, *, max_pixels: int) -> Float[np.ndarray, "c h w"]:
    """Decode an image that comes from elsewhere, as `read_image` reads a file.

    Args:
        data: The content of an image file.
        channels: 1 for greyscale, 3 for RGB, 4 for RGBA.
        max_pixels: Largest number of pixels. Larger images are refused before they are decompressed.

    Returns:
        The image in [0, 1], (channels, h, w), in single precision.

    Raises:
        OutputError: The image is too large, broken, animated or not an image.
    """
    with open_image(data, max_pixels=max_pixels) as picture:
        return _still_pixels(picture, _label(data), channels)


def open_image(path: Path | bytes, *, max_pixels: int | None = None) -> PillowImage.Image:
    """Open an image file and decode it.

    Args:
        path: The file, or its content.
        max_pixels: Largest number of pixels; `None` for Pillow's limit.

    Returns:
        Pillow's image, to be closed by the caller.

    Raises:
        OutputError: The file is missing, broken, too large or not an image.
    """
    picture = None
    if isinstance(path, Path) and not is_file(path) and os.path.exists(path):  # noqa: PTH110  # a pipe would be waited for
        raise OutputError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; give an image file")
    try:
        picture = PillowImage.open(BytesIO(path) if isinstance(path, bytes) else path, formats=READ_FORMATS)
        if max_pixels is not None and picture.width * picture.height > max_pixels:
            raise PillowImage.DecompressionBombError(
                f"{picture.width} x {picture.height} px, and at most {max_pixels / 1e6:g} million pixels are read"
            )
        picture.load()
    except FileNotFoundError as error:
        raise OutputError(f"no file {_label(path)}; check the path") from error
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning, MemoryError) as error:
        if picture is not None:
            picture.close()
        raise OutputError(f"{_label(path)} is too large: {error}; make it smaller first") from error
    except READ_ERRORS as error:
        if picture is not None:
            picture.close()
        if "truncated" in str(error):
            raise OutputError(f"{_label(path)} is truncated; was it copied completely?") from error
        raise OutputError(f"cannot read {_label(path)} as an image; give a PNG, JPEG or WebP file") from error
    return picture


def stored_texts(path: Path | bytes | PillowImage.Image) -> dict[str, str]:
    """Return the texts that `encode` stored in an image; of a PNG, all of its text entries.

    Args:
        path: The file, its content, or a Pillow image that was opened from it.

    Raises:
        OutputError: The file is missing or not an image.
    """
    if isinstance(path, PillowImage.Image):
        path.load()  # the entries of a PNG may come after the pixels
        return {str(key): value for key, value in path.info.items() if isinstance(value, str)} | _comment_texts(path)
    with open_image(path) as picture:
        return dict(getattr(picture, "text", {})) | _comment_texts(picture)


def _comment_texts(picture: PillowImage.Image) -> dict[str, str]:
    """Return the texts in the comment of an image: in its EXIF data, or that of a GIF."""
    try:
        comment = picture.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT) or picture.info.get("comment")
    except (OSError, SyntaxError, ValueError, TypeError, KeyError):
        return {}
    return unpack_texts(comment.removeprefix(ASCII_PREFIX)) if isinstance(comment, bytes) else {}


def pack_texts(recipe: str | None, report: str | None) -> bytes:
    """Return a recipe and a report as the comment of a file: JSON in ASCII.

    Args:
        recipe: Recipe as JSON; `None` for none.
        report: Report as JSON; `None` for none.
    """
    return json.dumps({key: text for key, text in ((RECIPE_KEY, recipe), (REPORT_KEY, report)) if text}).encode()


def unpack_texts(comment: bytes) -> dict[str, str]:
    """Return the recipe and the report in the comment of a file, by `RECIPE_KEY` and `REPORT_KEY`.

    Args:
        comment: Any bytes. Those of another program, or broken ones, hold neither.
    """
    try:
        found = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    entries = found if isinstance(found, dict) else {}
    return {key: entries[key] for key in (RECIPE_KEY, REPORT_KEY) if isinstance(entries.get(key), str)}


def _label(path: Path | bytes | PillowImage.Image) -> str:
    """Return the name of a file for messages."""
    return str(path) if isinstance(path, Path) else "the image data" if isinstance(path, bytes) else "the image"
