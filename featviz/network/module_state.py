"""Temporary changes to a module, undone also after an error or Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

CAST_MODULES = (nn.modules.conv._ConvNd, nn.Linear)
"""Modules whose weights are converted to the lower precision. Autocast handles all others as they run."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Set eval mode and freeze the parameters; restore every flag and buffer afterwards.

    Args:
        module: The module to freeze.
    """
    # Flags are set directly, because a user's `train()` may do more, such as merging adapter weights in eval mode.
    training = {part: part.training for part in module.modules()}
    buffers = {part: dict(part._buffers) for part in training if part._buffers}
    values = {held: held.clone() for own in buffers.values() for held in own.values() if held is not None}
    versions = {held: version(held) for held in values}
    # Weights made in inference mode have no gradient and cannot be told to have one.
    required = {weight: weight.requires_grad for weight in module.parameters() if not weight.is_inference()}
    try:
        for part in training:
            part.training = False
        for weight in required:
            weight.requires_grad_(False)
        yield
    finally:
        for part, flag in training.items():
            part.training = flag
        for part, own in buffers.items():
            part._buffers.update(own)  # a forward pass may have assigned another tensor …
        with torch.no_grad():
            for held, value in values.items():
                if versions[held] != version(held):  # … or written to the same one
                    held.copy_(value)
        for weight, flag in required.items():
            weight.requires_grad_(flag)


def version(tensor: torch.Tensor) -> int:
    """Return PyTorch's version counter, which changes with every in-place write, but not with writes to `.data`.

    Args:
        tensor: Any tensor.

    Returns:
        The counter; -1 for inference tensors, which have none.
    """
    return -1 if tensor.is_inference() else tensor._version


@contextmanager
def converted_weights(
    module: nn.Module, memory_format: torch.memory_format, dtype: torch.dtype = torch.float32
) -> Iterator[None]:
    """Convert weights to the memory format and precision of fast kernels; restore them afterwards.

    Args:
        module: The module whose weights are converted.
        memory_format: Memory format of the 4-dimensional weights, those of convolutions.
        dtype: Precision of the weights of `CAST_MODULES` that are in single precision.
    """
    cast = {
        weight
        for part in module.modules()
        if isinstance(part, CAST_MODULES)
        for weight in part.parameters(recurse=False)
        if weight.dtype == torch.float32
    }
    originals = [(weight, weight.data) for weight in module.parameters() if weight.ndim == 4 or weight in cast]
    try:
        for weight, data in originals:
            layout = memory_format if weight.ndim == 4 else torch.preserve_format
            weight.data = data.to(dtype if weight in cast else data.dtype, memory_format=layout)
        yield
    finally:
        for weight, data in originals:
            weight.data = data
