"""Images that objectives read once before a render: references, photographs and masks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import RenderContext, Size
from featviz.io.image_source import ImageSource, load_image_source
from featviz.network.activations import Activations


def read_for(
    context: RenderContext, source: ImageSource, size: Size, channels: int | None = None
) -> Float[Tensor, "c *size"]:
    """Read an image for a render.

    Args:
        context: Facts about the render.
        source: The image.
        size: Length of each axis in px to which it is brought.
        channels: Number of channels; `None` for that of the network.

    Raises:
        SettingError: Several inputs are optimised, and the reference is for one of them only.
        OutputError: The file cannot be read.
    """
    if context.inputs:
        names = " and ".join(context.inputs)
        raise SettingError(
            f"the objective reads an image, and the inputs {names} are optimised; give values for all but one "
            "with net.with_given(...), or leave it out"
        )
    return load_image_source(source, context.channels if channels is None else channels, size)


@torch.no_grad()
def capture_for(context: RenderContext, images: Float[Tensor, "n c *size"], layers: Iterable[str]) -> Activations:
    """Return the activations of images that an objective has read.

    Args:
        context: Facts about the render, and what runs the network.
        images: In [0, 1].
        layers: Names of the layers to capture.

    Raises:
        SettingError: Inputs are given per image, of which none belongs to these images.
    """
    if context.per_image:
        raise SettingError(
            "the objective runs the network on an image of its own, for which inputs that are given per image "
            f"({', '.join(context.per_image)}) have no row; give one row for all with net.with_given(...)"
        )
    return context.capture(images, layers)
