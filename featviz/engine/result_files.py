"""Files of results that hold all of their numbers, and checks of file names and rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.io import (
    NPY,
    check_result,
    ending_of,
    is_folder,
    pack_texts,
    save_clip,
    save_nifti,
    save_npy,
    save_wav,
    sheets_of,
)
from featviz.io.audio import MAX_RATE, SAMPLE_RATE, WAV
from featviz.io.clips import FRAME_RATE
from featviz.io.nifti import NIFTI
from featviz.io.video import VIDEOS, check_fps
from featviz.network import InputSpec

NUMBER_ENDINGS = (NPY, WAV, *NIFTI, *VIDEOS)
"""Endings of files that hold all of a result, not a picture of it."""


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
        path: A file with one of the endings `NUMBER_ENDINGS`.
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
