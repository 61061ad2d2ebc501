"""Read files of signals, volumes and video as the input of a network."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.io import fit_size, read_data
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.network import Network


def read_values(file: str | Path, spec: InputSpec) -> Float[Tensor, "n c *whole"]:
    """Read all signals, volumes or clips of a file, each as long as the file has it.

    Args:
        file: As for `read_data`.
        spec: Input specification of the network that reads them.

    Returns:
        The values in the range of the data.

    Raises:
        OutputError: The file cannot be read.
        SettingError: The file has other channels or axes, or most of its values are out of range.
    """
    found = read_data(file, spec.channels, spec.axes)
    spec.check_values(found, str(file))
    return found


def fit_to_input(values: Float[Tensor, "c *size"], spec: InputSpec) -> Float[Tensor, "c *size2"]:
    """Return a signal or a volume at the input size of a network, in [0, 1]: cropped, or padded with the mean.

    Args:
        values: In the range of the data.
        spec: Input specification of the network.
    """
    return spec.images(fit_size(values, spec.size, torch.tensor(spec.mean))[None])[0]


def read_start(file: str | Path, network: Network) -> Float[Tensor, "n c *size"]:
    """Read the signals, volumes or clips of a file from which a render starts.

    They keep their size, unless the network accepts its input size only.

    Args:
        file: As for `read_data`.
        network: The network.

    Returns:
        The inputs in [0, 1].

    Raises:
        OutputError: The file cannot be read.
        SettingError: The file has other channels or axes, or most of its values are out of range.
    """
    values, spec = read_values(file, network.input), network.input
    return torch.stack([fit_to_input(each, spec) for each in values]) if network.fixed_size else spec.images(values)
