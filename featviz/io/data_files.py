"""Signals and volumes in files: .npy, audio and NIfTI, in the range of their data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import OutputError, SettingError
from featviz.interfaces import Size
from featviz.io.audio import WAV, read_wav
from featviz.io.files import is_file
from featviz.io.folders import read_npy
from featviz.io.nifti import NIFTI, read_nifti

ARRAY_ENDINGS = (".npy",)
AUDIO_ENDINGS = (WAV, ".flac")
DATA_ENDINGS = {1: ARRAY_ENDINGS + AUDIO_ENDINGS, 3: ARRAY_ENDINGS + NIFTI}
"""File endings that can be read, by the number of spatial axes: signals, and volumes or video."""


def read_data(file: str | Path, channels: int, axes: int) -> Float[Tensor, "c *size"]:
    """Read a signal, a volume or a clip.

    Args:
        file: A .npy file with an array `(channels, *size)`, or `*size` for one channel. For one axis also .wav and
            .flac, for three also .nii and .nii.gz, whose fourth axis is the channels.
        channels: Number of channels that it must have.
        axes: Number of spatial axes, 1 or 3.

    Returns:
        The values in the range of the data, in single precision.

    Raises:
        OutputError: The file is missing or cannot be read, or the package for its format is not installed.
        SettingError: It has other axes or channels, or values that are not finite.
    """
    path, name = Path(file), str(file).lower()
    if not is_file(path):
        raise OutputError(f"no file {file}; check the path")
    if not name.endswith(DATA_ENDINGS[axes]):
        raise OutputError(f"cannot read {file}: end it in {', '.join(DATA_ENDINGS[axes])}")
    if name.endswith(AUDIO_ENDINGS):
        found, _ = read_wav(path)
    else:
        found = _volume(path) if name.endswith(NIFTI) else _array(path)
    values = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    values = values[None] if values.ndim == axes else values
    if values.ndim != axes + 1 or values.shape[0] != channels or not values.numel():
        dims = ", ".join(("length",) if axes == 1 else ("d", "h", "w"))
        raise SettingError(f"{file} must hold an array of shape ({channels}, {dims}), got {tuple(values.shape)}")
    if not values.isfinite().all():
        raise SettingError(f"{file} has values that are NaN or infinite; replace them first")
    return values


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


def _array(path: Path) -> np.ndarray:
    found = read_npy(path)
    if found.dtype.kind not in "biuf":
        raise OutputError(f"cannot read {path}: it holds {found.dtype}, not real numbers")
    return found


def _volume(path: Path) -> np.ndarray:
    voxels = read_nifti(path)
    return np.moveaxis(voxels, 3, 0) if voxels.ndim == 4 else voxels
