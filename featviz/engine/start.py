"""Start images and leaf tensors of a render."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_axes
from featviz.engine.view import size_of
from featviz.errors import RenderError, SettingError, pluralize
from featviz.interfaces import (
    Leaves,
    Param,
    Size,
    param_traits_of,
    show_size,
)
from featviz.io import check_unit_range, read_image, resize
from featviz.network import Network, read_start
from featviz.network.out_of_memory import is_out_of_memory
from featviz.random import Generators

Start = str | Path | Float[Tensor, "..."] | Float[np.ndarray, "..."]
"""A file of an image or of other data, or an image or a batch of them in [0, 1]."""


def image_size(param: Param, network: Network, start_images: Tensor | None) -> Size:
    """Return the size of the images: that of the param, of the start image or of the network's input.

    Args:
        param: Image parameterization.
        network: The network.
        start_images: Images from which the render starts; `None` for none.

    Raises:
        SettingError: The size has another number of axes than the network's input.
    """
    size = param.size or (network.size if start_images is None else size_of(start_images))
    check_axes(size, len(network.size), f"the input {network.size} of {network.label}")
    return size


def load_start(start: str | Path | Tensor, network: Network, count: int) -> Float[Tensor, "n c *size"]:
    """Read or check the images from which a render starts.

    Args:
        start: A file, or one image or one per image of the render, in [0, 1].
        network: The network.
        count: Number of images.

    Returns:
        The images on the CPU, in single precision.

    Raises:
        OutputError: The file cannot be read.
        SettingError: The images have another shape or range.
    """
    channels, axes = network.channels, len(network.size)
    if isinstance(start, Tensor):
        image = start
    else:
        image = torch.from_numpy(read_image(start, channels)) if axes == 2 else read_start(start, network)
    given, image = tuple(image.shape), image[None] if image.ndim == axes + 1 else image
    if image.ndim != axes + 2 or image.shape[0] not in (1, count) or image.shape[1] != channels:
        one = network.input.dims.removeprefix("n, ")
        raise SettingError(f"start must have shape ({one}) or ({count}, {one}), got {given}")
    check_unit_range(image, "start")
    return image.detach().float().cpu().expand(count, *image.shape[1:]).clone()


def first_images(
    param: Param, rng: Generators, network: Network, size: Size, start_images: Tensor | None
) -> tuple[Leaves, Float[Tensor, "n c *size"]]:
    """Return the initial leaf tensors on the network's device, and their images.

    Args:
        param: Image parameterization.
        rng: One generator per image.
        network: The network.
        size: Length of each axis of the images in px.
        start_images: Images from which the render starts, in [0, 1]; `None` for the param's own start.

    Raises:
        RenderError: They do not fit in memory.
        SettingError: A custom param returns tensors or images of the wrong type or shape.
    """
    try:
        if start_images is None:
            leaves = param.start(rng, network.channels, size)
        else:
            leaves = param.fit(_resized_start(start_images, size))
        _check_leaves(leaves, param, len(rng))
        leaves = [leaf.to(network.device).requires_grad_() for leaf in leaves]
        with torch.no_grad():
            images = param.images(leaves, size)
        if images.shape[:1] != (len(rng),) or size_of(images) != size:
            raise SettingError(
                f"images of {param} must have the shape ({len(rng)}, channels, {', '.join(map(str, size))}), got "
                f"{tuple(images.shape)}"
            )
        return leaves, images
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RenderError(f"out of memory with images of {show_size(size)} px; give a smaller size") from error
        raise


def _check_leaves(leaves: object, param: Param, count: int) -> None:
    """Check the tensors that a param starts with.

    Raises:
        SettingError: They are no floating-point tensors with one row per image, or with any rows if images share them.
    """
    listed: Sequence[Any] = leaves if isinstance(leaves, Sequence) and leaves else [None]
    shared = param_traits_of(param).couples_batch
    for leaf in listed:
        is_tensor = isinstance(leaf, Tensor) and leaf.dtype in (torch.float32, torch.float64)
        if not is_tensor or not (shared or leaf.shape[:1] == (count,)):
            got = f"{leaf.dtype} {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else type(leaves).__name__
            raise SettingError(
                f"{param} must start with a list of float32 or float64 tensors, with a row for each of "
                f"{pluralize(count, 'image')}, got {got}"
            )


def _resized_start(images: Float[Tensor, "n c *size"], size: Size) -> Float[Tensor, "n c *size2"]:
    """Resize start images to the size of the render; their aspect ratio must match to within a pixel."""
    if len(size) != 2:
        return resize(images, size)
    height, width = size_of(images)
    if abs(height * size[1] / width - size[0]) > 1:
        raise SettingError(
            f"start must have the aspect ratio of the image, {size[0]} x {size[1]} px, got {height} x {width} px; "
            "crop it first"
        )
    return resize(images, size)
