"""Pictures of results with any number of axes, and the files in which they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.io import (
    NPY,
    check_result,
    clip_picture,
    ending_of,
    is_folder,
    pack_texts,
    plot_signal,
    save_clip,
    save_nifti,
    save_npy,
    save_wav,
    sheets_of,
    to_bytes,
    volume_picture,
)
from featviz.io.audio import MAX_RATE, SAMPLE_RATE, WAV
from featviz.io.clips import FRAME_RATE
from featviz.io.nifti import NIFTI
from featviz.io.video import VIDEOS, check_fps
from featviz.network import InputSpec

NUMBERS = (NPY, WAV, *NIFTI, *VIDEOS)
"""Endings of files that hold all of a result, not a picture of it."""


def picture_of(
    image: Float[np.ndarray, "c *size"],
    values: Float[np.ndarray, "c *size"],
    spec: InputSpec,
    *,
    alpha: bool = False,
    rate: float | None = None,
) -> UInt8[np.ndarray, "h w rgba"]:
    """Draw a result: a signal as a plot, a volume as slices and a projection, a clip as a row of frames.

    Args:
        image: In [0, 1].
        values: The image in the range of the data.
        spec: The input of the network.
        alpha: Whether the last channel is alpha.
        rate: Samples per second of a signal; `None` for a time axis in samples.

    Raises:
        OutputError: matplotlib is not installed, and the result is a signal.
        SettingError: `rate` is not > 0.
    """
    check_rate(rate)
    if spec.axes == "x":
        lows, highs = spec.bounds
        return plot_signal(values, (min(lows), max(highs)), rate)
    if spec.axes == "zyx":
        return volume_picture(image)
    return clip_picture(image, alpha=alpha) if spec.axes == "tyx" else to_bytes(image, alpha=alpha)


def in_range_of_data(images: Float[Tensor, "n c *size"], spec: InputSpec) -> Float[Tensor, "n c *size"]:
    """Return images in [0, 1] in the range of the network's data. An alpha channel stays in [0, 1].

    Args:
        images: In [0, 1].
        spec: The input of the network.
    """
    return torch.cat([spec.values(images[:, : spec.channels]), images[:, spec.channels :]], 1)


def pictures_of(images: Float[Tensor, "n c *size"], spec: InputSpec) -> list[UInt8[np.ndarray, "h w rgba"]]:
    """Draw results as `picture_of` does.

    Args:
        images: In [0, 1]; a channel more than the network reads is alpha.
        spec: The input of the network.

    Raises:
        OutputError: matplotlib is not installed, and the results are signals.
    """
    numbers = zip(images.numpy(), in_range_of_data(images, spec).numpy(), strict=True)
    return [picture_of(image, values, spec, alpha=images.shape[1] > spec.channels) for image, values in numbers]


def same_size(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Bring pictures to one size: small ones are enlarged by a whole number, and centred on white.

    Args:
        pictures: RGB pixels.
    """
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    return [_centre(picture, height, width) for picture in pictures]


def _centre(picture: UInt8[np.ndarray, "_ _ 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    times = min(height // picture.shape[0], width // picture.shape[1])
    large = picture.repeat(times, 0).repeat(times, 1)
    top, left = (height - large.shape[0]) // 2, (width - large.shape[1]) // 2
    whole = np.full((height, width, 3), 255, np.uint8)
    whole[top : top + large.shape[0], left : left + large.shape[1]] = large
    return whole


def save_numbers(
    images: Float[np.ndarray, "n c *size"],
    values: Float[np.ndarray, "n c *size"],
    path: Path,
    spec: InputSpec,
    texts: tuple[str, str | None],
    *,
    labels: tuple[str, ...] = (),
    alpha: bool = False,
    rate: float | None = None,
) -> Path:
    """Write all numbers of results, or the frames of clips, to one file.

    Args:
        images: In [0, 1].
        values: The images in the range of the data.
        path: A file with one of the endings `NUMBERS`.
        spec: The input of the network.
        texts: Recipe, and report or `None`, as JSON.
        labels: What each shows, for the frames of several clips.
        alpha: Whether the last channel is alpha.
        rate: Samples or frames per second; `None` for 16 000 and 12.

    Returns:
        The file.

    Raises:
        OutputError: The file cannot be written, the format does not fit the axes, or a package is not installed.
        SettingError: `rate` is out of its range, or a .wav file is to hold several signals.
    """
    check_save(path, spec.axes, count=len(values), rate=rate)
    ending, packed = ending_of(path), pack_texts(*texts)
    if ending == NPY:
        return save_npy(values, path, texts[0])
    if ending in NIFTI:
        return save_nifti(values, path, packed)
    if ending in VIDEOS:
        return save_clip(sheets_of(images, labels, alpha=alpha), path, rate or FRAME_RATE, texts[0], packed)
    return save_wav(values[0] / _loudest(spec), path, round(rate or SAMPLE_RATE), packed)


def _loudest(spec: InputSpec) -> float:
    """Return the divisor that brings values into [-1, 1], the range of sound: 1 for values that are in it anyway."""
    lows, highs = spec.bounds
    return max(1.0, -min(lows), max(highs))


def check_save(path: Path, axes: str, *, count: int = 1, rate: float | None = None) -> None:
    """Check that results can be saved, before anything is computed.

    Args:
        path: A file, or an existing folder.
        axes: Axes of the input, as in `InputSpec`.
        count: Number of results.
        rate: Samples or frames per second; `None` for the default.

    Raises:
        OutputError: The file cannot be written, the format does not fit the axes, or a package is not installed.
        SettingError: `rate` is out of its range, or a .wav file is to hold several signals.
    """
    check_result(path, axes)
    ending = "" if is_folder(path) else ending_of(path)
    check_rate(rate, ending)
    if ending == WAV and count > 1:
        raise SettingError(
            f"a .wav file holds one signal, got {count}; render one at a time, save each as rendering[i].save(...), or "
            "end the name in .npy"
        )


def check_rate(rate: float | None, ending: str = "") -> None:
    """Check the number of samples or frames per second.

    Args:
        rate: The number; `None` for the default.
        ending: Ending of the file, whose format has limits of its own; empty for none.

    Raises:
        SettingError: `rate` is out of its range.
    """
    if rate is None:
        return
    check_number("rate", rate, above=0)
    if ending == WAV:
        check_number("rate of a .wav file", rate, at_least=1, at_most=MAX_RATE)
    if ending in VIDEOS:
        check_fps(rate, f"rate of a {ending} file")
