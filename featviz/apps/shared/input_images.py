"""Read images at about the input size of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.io import check_unit_range, read_image, read_photograph
from featviz.network import Network

MAX_ELONGATION = 4
"""A longer side of a photograph is cropped to this many times the network's input size."""


def as_images(network: Network, image: str | Path | Tensor | np.ndarray) -> Float[Tensor, "n c h w"]:
    """Return images as a batch, or read a file at about the network's input size.

    A file is resized so that its sides reach the input size, uncropped unless it is very elongated. For a network of
    fixed input size, its center is cropped instead.

    Args:
        network: The network.
        image: An image file; or one or several images in [0, 1], (c, h, w) or (n, c, h, w), which keep their size.

    Returns:
        The images, in [0, 1].

    Raises:
        OutputError: The file cannot be read.
        SettingError: The images do not have the network's channels, or are not in [0, 1].
        ModelError: The network does not accept their size.
    """
    if isinstance(image, Tensor | np.ndarray):
        images = torch.as_tensor(image).detach().cpu()
        check_unit_range(images, "the image")
        images = images.float()[None] if images.ndim == 3 else images.float()
    elif network.fixed_size:
        images = read_photograph(image, size=network.size, channels=network.channels)[None]
    else:
        read = torch.from_numpy(read_image(image, network.channels))
        scale = max(network.size[0] / read.shape[1], network.size[1] / read.shape[2])
        sides = zip(network.size, read.shape[1:], strict=True)
        height, width = (min(MAX_ELONGATION * own, max(own, round(scale * side))) for own, side in sides)
        images = read_photograph(image, size=(height, width), channels=network.channels)[None]
    network.check_images(images)
    network.check_size((images.shape[-2], images.shape[-1]))
    return images
