"""Convert weights and images to the memory format and precision of fast kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CAST_MODULES = (nn.modules.conv._ConvNd, nn.Linear)
"""Modules whose weights are converted to the lower precision. Autocast handles all others as they run."""


def convert_weights(module: nn.Module, memory_format: torch.memory_format, dtype: torch.dtype = torch.float32) -> None:
    """Convert the weights of a working copy.

    Args:
        module: The working copy. The weights of the user's module stay as they are.
        memory_format: Memory format of the weights of 2-dimensional convolutions. Other 4-dimensional parameters keep
            theirs, because the user's code may reshape them with `view`.
        dtype: Precision of the weights of `CAST_MODULES` that are in single precision.
    """
    for part in module.modules():
        if not isinstance(part, CAST_MODULES):
            continue
        for weight in part.parameters(recurse=False):
            layout = memory_format if weight.ndim == 4 else torch.preserve_format
            cast = dtype if weight.dtype == torch.float32 else weight.dtype
            weight.data = weight.data.to(cast, memory_format=layout)


def in_memory_format(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Convert the memory format of images in the forward pass; make their gradient contiguous in the backward pass.

    The backward pass of the first convolution outputs a channels-last gradient. With it, every following product with
    a contiguous tensor is a strided pass, which takes three times as long.

    Args:
        images: The images.
        memory_format: Their new format.
    """
    if images.requires_grad and not images.is_leaf:
        images.register_hook(Tensor.contiguous)
    return images.contiguous(memory_format=memory_format)
