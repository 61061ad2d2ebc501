"""Images that a user gives, as a batch at about the input size of a network."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.apps.shared.arguments.inputs import as_data
from featviz.io import GivenImage, load_given_images, middle
from featviz.network import Network

MAX_ELONGATION = 4
"""A longer side of a photograph is cropped to this many times the network's input size."""


def as_images(network: Network, given: GivenImage) -> Float[Tensor, "n c *size"]:
    """Return images as a batch. Files and Pillow images are resized to about the network's input size.

    A photograph is resized so that its sides reach the input size, uncropped unless it is very elongated. For a network
    of fixed input size, and where several photographs have different aspect ratios, the centre is cropped instead.
    Arrays and tensors keep their size.

    Args:
        network: The network.
        given: A file, a folder, a Pillow image, an array or tensor (h, w), (h, w, c) or (c, h, w), a list of any of
            these, or a batch. Whole numbers count up to 255, floats are in [0, 1]. For signals and volumes as for
            `as_data`.

    Returns:
        The images, in [0, 1].

    Raises:
        OutputError: A file cannot be read.
        SettingError: The images do not have the network's channels, are not in [0, 1], or have different sizes.
        ModelError: The network does not accept their size.
    """
    if len(network.size) != 2:
        return as_data(network, given)
    images = load_given_images(given, network.channels)
    if not _is_numeric(given):
        sizes = {_size_beside(network, image) for image in images}
        size = sizes.pop() if len(sizes) == 1 and not network.fixed_size else network.size
        images = [middle(image, network.channels, size) for image in images]
    elif len({image.shape for image in images}) > 1:  # several arrays cannot keep their sizes in one batch
        images = [middle(image, network.channels, network.size) for image in images]
    batch = torch.stack(images)
    network.check_images(batch)
    network.check_size((batch.shape[-2], batch.shape[-1]))
    return batch


def _is_numeric(given: GivenImage) -> bool:
    """Whether images are numbers, which have been prepared already, and not photographs."""
    one = given[0] if isinstance(given, list | tuple) and given else given
    return isinstance(one, np.ndarray | Tensor)


def _size_beside(network: Network, image: Float[Tensor, "c h w"]) -> tuple[int, int]:
    """Return the size at which the sides of a photograph reach the network's input size."""
    scale = max(network.size[0] / image.shape[1], network.size[1] / image.shape[2])
    sides = zip(network.size, image.shape[1:], strict=True)
    height, width = (min(MAX_ELONGATION * own, max(own, round(scale * side))) for own, side in sides)
    return height, width
