"""Files of signals, volumes and video: read them, and cut them to the size of a network's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizError, OutputError, SettingError
from featviz.interfaces import Size, show_size
from featviz.io.audio import WAV
from featviz.io.files import ending_of, is_file
from featviz.io.folders import files_in
from featviz.io.formats import KINDS, read_numbers
from featviz.io.images import LUMA
from featviz.io.nifti import NIFTI
from featviz.io.npy import NPY
from featviz.io.resizing import linear_mode, resize
from featviz.io.video import read_video

SOUNDS = (WAV, ".flac")
SAMPLE_ENDINGS = {
    "x": (NPY, *SOUNDS),
    "zyx": (NPY, *NIFTI),
    "tyx": (NPY, ".mp4", ".webm", ".mov", ".avi", ".mkv", ".gif"),
}
"""File endings of data, by the axes of the input."""
MAX_PARTS = 32
"""Largest number of parts that are cut out of one recording or video."""


def read_samples(
    folder: str | Path, *, channels: int, size: Size, axes: str, skipped: Callable[[Path, str], None] | None = None
) -> Iterator[tuple[Path, Float[Tensor, "n c *size"]]]:
    """Read the files of a folder and of its subfolders, one at a time, as parts of one size.

    Of each recording at most 32 parts are cut out, evenly spaced in time; of a video, parts of its first
    32 · `size[0]` frames. Neither is resampled in time. Frames and volumes are cropped to the largest centred part with
    the aspect ratio of `size`, and resized.

    Args:
        folder: The folder.
        channels: Number of channels.
        size: Length of each axis.
        axes: `"x"`, `"zyx"` or `"tyx"`, as in `InputSpec`.
        skipped: Called with each file that cannot be used, and why; `None` to raise the error of the first one.

    Returns:
        An iterator over the files and their parts, in the range of the data: frames of video in [0, 1], sounds in
        [-1, 1], other numbers as the file has them.

    Raises:
        OutputError: The folder is missing or has no such files, or a file cannot be read.
        SettingError: A file has another number of channels or axes, or is too short.
    """
    for file in files_in(folder, SAMPLE_ENDINGS[axes], "data files"):
        try:
            numbers = read_data(file, channels, axes, MAX_PARTS * size[0])
            parts = torch.cat([parts_of(each, size, axes, str(file)) for each in numbers])
        except FeatvizError as error:
            if skipped is None:
                raise
            skipped(file, str(error))
            continue
        yield file, parts


def parts_of(values: Float[Tensor, "c *whole"], size: Size, axes: str, name: str) -> Float[Tensor, "n c *size"]:
    """Cut a signal, a volume or a clip into parts of one size, as `read_samples` describes.

    Args:
        values: One signal, volume or clip.
        size: Length of each axis of a part.
        axes: `"x"`, `"zyx"` or `"tyx"`.
        name: What messages call it.

    Raises:
        SettingError: A recording or clip is shorter than a part.
    """
    if axes == "zyx":
        return _middle(values, size, clip=False)[None]
    length, part = values.shape[1], size[0]
    if length < part:
        unit = "samples" if axes == "x" else "frames"
        raise SettingError(f"{name} has {length} {unit}, fewer than the {part} of an input; give longer ones")
    starts = torch.linspace(0, length - part, min(MAX_PARTS, length // part)).round().int().tolist()
    cut = torch.stack([values[:, start : start + part] for start in starts])
    if axes == "x" or cut.shape[3:] == size[1:]:
        return cut
    frames = _middle(cut.transpose(1, 2).flatten(0, 1).transpose(0, 1), (len(starts) * part, *size[1:]), clip=True)
    return frames.transpose(0, 1).unflatten(0, (len(starts), part)).transpose(1, 2)


def read_data(file: str | Path, channels: int, axes: str, most: int | None = None) -> Float[Tensor, "n c *whole"]:
    """Read all signals, volumes or clips of a file. It cannot run code.

    Args:
        file: A .npy file with an array `(n, channels, *size)`, `(channels, *size)`, or `*size` for one channel; or a
            sound, a NIfTI file or a video, as the axes allow. One channel is the mean of those of a sound.
        channels: Number of channels.
        axes: `"x"`, `"zyx"` or `"tyx"`, as in `InputSpec`.
        most: Largest number of frames to read of a video; `None` for all.

    Returns:
        The values in the range of the data, in single precision: frames of video in [0, 1], sounds in [-1, 1].

    Raises:
        OutputError: The file is missing or cannot be read, or the package for its format is not installed.
        SettingError: The file has other axes or channels, or values that are not finite.
    """
    path, endings = Path(file), SAMPLE_ENDINGS[axes]
    if not is_file(path):
        raise OutputError(f"no file {file}; check the path")
    ending = ending_of(path)
    if ending not in endings:
        raise OutputError(f"cannot read {file} as {KINDS[axes]}; give a file that ends in {', '.join(endings)}")
    if ending in (NPY, *SOUNDS):
        found = read_numbers(path)
        if found.dtype.kind not in "fiub":
            raise SettingError(f"{file} must hold numbers, got {found.dtype}")
        numbers = torch.from_numpy(found.astype(np.float32))
        if ending in SOUNDS and channels == 1:
            numbers = numbers.mean(0, keepdim=True)
    elif ending in NIFTI:
        numbers = _channels_first(torch.from_numpy(read_numbers(path)), channels)
    else:
        numbers = _frames(path, channels, most)
    if numbers.ndim == len(axes) and channels == 1:
        numbers = numbers[None]
    if numbers.ndim == len(axes) + 1:
        numbers = numbers[None]
    if numbers.ndim != len(axes) + 2 or numbers.shape[1] != channels or 0 in numbers.shape:
        names = {"x": "length", "zyx": "d, h, w", "tyx": "t, h, w"}[axes]
        raise SettingError(f"{file} must have shape ({channels}, {names}), got ({show_size(numbers.shape, ', ')})")
    if not numbers.isfinite().all():
        raise SettingError(f"{file} has values that are NaN or infinite; replace them first")
    return numbers


def fit_size(values: Float[Tensor, "c *size"], size: Size, fill: Float[Tensor, " c"]) -> Float[Tensor, "c *size2"]:
    """Crop a signal or a volume to its centre, and pad it where it is too short.

    It is not resized: that would change frequencies.

    Args:
        values: Any values.
        size: Length of each axis of the result.
        fill: Value of each channel in the padding.
    """
    for axis, wanted in enumerate(size, 1):
        start = max(0, (values.shape[axis] - wanted) // 2)
        values = values.narrow(axis, start, min(wanted, values.shape[axis]))
    missing = [wanted - side for wanted, side in zip(size, values.shape[1:], strict=True)]
    if not any(missing):
        return values
    around = [edge for each in reversed(missing) for edge in (each // 2, each - each // 2)]
    offset = fill.view(-1, *[1] * len(size))
    return F.pad(values - offset, around) + offset


def _channels_first(voxels: Tensor, channels: int) -> Tensor:
    """Return the array of a NIfTI file with volumes and channels first, as `save_nifti` writes them."""
    if voxels.ndim == 5:
        return voxels.movedim((3, 4), (0, 1))
    if voxels.ndim == 4:
        moved = voxels.movedim(3, 0)
        return moved if len(moved) == channels else moved[:, None]
    return voxels


def _frames(file: Path, channels: int, most: int | None) -> Float[Tensor, "c t h w"]:
    """Read the first frames of a video as colours or grey levels in [0, 1].

    Raises:
        SettingError: Neither 1 nor 3 channels are wanted.
    """
    if channels not in (1, 3):
        raise SettingError(f"a video has 1 or 3 channels, and the input has {channels}; save it as .npy")
    _, _, frames = read_video(file)
    clip = torch.stack([torch.from_numpy(frame.copy()) for frame in islice(frames, most)]).movedim(3, 0) / 255
    return clip if channels == 3 else (clip * torch.tensor(LUMA).view(3, 1, 1, 1)).sum(0, keepdim=True)


def _middle(values: Float[Tensor, "c *whole"], size: Size, *, clip: bool) -> Float[Tensor, "c *size"]:
    """Crop the largest centred part with the aspect ratio of `size`, and resize it.

    Frames of video are resized with antialiasing, volumes by the means of blocks where they shrink.

    Args:
        values: A volume or a clip.
        size: Length of each axis of the result.
        clip: Whether the first axis is time, which is kept.
    """
    whole = values.shape[1:]
    shrink = min(side / wanted for side, wanted in list(zip(whole, size, strict=True))[int(clip) :])
    crop = [min(side, max(1, round(wanted * shrink))) for side, wanted in zip(whole, size, strict=True)]
    crop = [whole[0], *crop[1:]] if clip else crop
    start = [(side - kept) // 2 for side, kept in zip(whole, crop, strict=True)]
    part = values[(slice(None), *(slice(at, at + kept) for at, kept in zip(start, crop, strict=True)))]
    if tuple(crop) == size:
        return part.contiguous()
    if clip:
        return resize(part.transpose(0, 1), size[1:]).transpose(0, 1)
    if shrink > 1:
        return F.interpolate(part[None], size, mode="area")[0]
    return F.interpolate(part[None], size, mode=linear_mode(part[None]))[0]
