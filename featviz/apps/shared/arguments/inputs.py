"""Inputs of a network as users give them: images, or signals, volumes and video, alone, in lists or in folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.io import (
    SAMPLE_ENDINGS,
    GivenImage,
    check_unit_range,
    files_in,
    images_in,
    is_folder,
    read_photograph,
    separate_images,
)
from featviz.network import InputSpec, Network, fit_to_input, read_values

InputLike = GivenImage
"""As `GivenImage`; for signals and volumes a .npy, .wav or .nii.gz file, or numbers (c, *size) in [0, 1]."""


def inputs_in(folder: str | Path, spec: InputSpec) -> Iterator[Path]:
    """Find the files of a folder and of its subfolders that a network can read, sorted by name within each folder.

    Args:
        folder: The folder.
        spec: Input specification of the network.

    Raises:
        OutputError: The folder is missing, or has no such file.
    """
    return images_in(folder) if spec.axes == "yx" else files_in(folder, SAMPLE_ENDINGS[spec.axes], "input files")


def read_input(file: str | Path, spec: InputSpec) -> Float[Tensor, "c *size"]:
    """Read a file at the input size of a network.

    Args:
        file: An image, whose centre is cropped and resized; a signal or a volume in the range of the network's data,
            whose centre is cropped, or which is padded with the mean.
        spec: Input specification of the network.

    Returns:
        The input in [0, 1].

    Raises:
        OutputError: The file cannot be read.
        SettingError: The file has other channels or axes.
    """
    if len(spec.size) == 2:
        return read_photograph(file, size=spec.size, channels=spec.channels)
    return fit_to_input(_read_one(file, spec), spec)


def separate_inputs(network: Network, given: InputLike) -> list[Any] | None:
    """Return the inputs of a folder, a batch or a sequence, as `separate_images` does for images.

    Args:
        network: The network.
        given: What a user gives.

    Returns:
        The inputs; `None` for a single one or a batch of one.

    Raises:
        OutputError: A folder holds no input.
        SettingError: The sequence is empty.
    """
    axes = len(network.size)
    if axes == 2:
        return separate_images(given)
    if isinstance(given, str | Path) and is_folder(given):
        return list(inputs_in(given, network.input))
    is_batch = isinstance(given, np.ndarray | Tensor) and given.ndim == axes + 2 and len(given) != 1
    if not is_batch and not isinstance(given, list | tuple):
        return None
    if not len(given):
        raise SettingError(f"there is no input in the list; give {_list_accepted(network)}")
    return list(given)


def as_data(network: Network, given: InputLike) -> Float[Tensor, "n c *size"]:
    """Return signals, volumes or clips as a batch.

    Files keep their size, unless the network accepts its input size only or they have different sizes: then their
    centre is cropped, or they are padded with the mean.

    Args:
        network: A network with one or three spatial axes.
        given: A file, a folder, an array or a tensor, a list of these, or a batch.

    Returns:
        The inputs in [0, 1].

    Raises:
        OutputError: A file cannot be read.
        SettingError: They have other axes or channels, numbers outside of [0, 1], or different sizes.
        ModelError: The network does not accept their size.
    """
    several = separate_inputs(network, given)
    listed = [given] if several is None else several
    spec = network.input
    if isinstance(listed[0], str | Path):
        files = [_read_one(file, spec) for file in listed]
        alike = len({values.shape for values in files}) == 1 and not network.fixed_size
        inputs = [spec.images(values[None])[0] if alike else fit_to_input(values, spec) for values in files]
    else:
        inputs = [_numbers(network, each) for each in listed]
    if len({each.shape for each in inputs}) > 1:
        raise SettingError("inputs of one batch must have one size; give them one by one")
    batch = torch.stack(inputs)
    network.check_images(batch)
    network.check_size(tuple(batch.shape[2:]))
    return batch


def _read_one(file: str | Path, spec: InputSpec) -> Float[Tensor, "c *size"]:
    """Read a file that holds one signal, volume or clip.

    Raises:
        OutputError: The file cannot be read.
        SettingError: It holds several, has other channels or axes, or most of its values are out of range.
    """
    found = read_values(file, spec)
    if len(found) != 1:
        raise SettingError(f"{file} holds {len(found)} inputs; save each in a file of its own")
    return found[0]


def _numbers(network: Network, given: Any) -> Float[Tensor, "c *size"]:
    """Return one array or tensor as an input in [0, 1].

    Raises:
        SettingError: `given` is no array, has other axes, or numbers outside of [0, 1].
    """
    axes = len(network.size)
    if not isinstance(given, np.ndarray | Tensor):
        raise SettingError(f"an input of {network.label} must be {_list_accepted(network)}, got {type(given).__name__}")
    found = torch.from_numpy(given.copy()) if isinstance(given, np.ndarray) else given.detach().cpu()
    found = found[0] if found.ndim == axes + 2 and len(found) == 1 else found
    found = found[None] if found.ndim == axes else found
    if not found.is_floating_point() or not found.numel() or not (found.min() >= 0 and found.max() <= 1):
        low, high = network.input.bounds
        hint = f"values from {min(low):g} to {max(high):g} become such by network.input.images(values)"
        try:
            check_unit_range(found, "the input")
        except SettingError as error:
            raise SettingError(f"{error}; {hint}") from error
    return found.float()


def _list_accepted(network: Network) -> str:
    """Return what an input may be, for messages."""
    dims = network.input.dims.removeprefix("n, ")
    return (
        f"a file that ends in {', '.join(SAMPLE_ENDINGS[network.input.axes])}, or numbers of shape ({dims}) in [0, 1]"
    )
