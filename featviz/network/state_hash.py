"""Hash of the weights and buffers of a module."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

HASH_LENGTH = 16
"""Number of hexadecimal digits of a hash."""


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a `state_dict`, sorted by name. Modules may store other values in it, too.

    Args:
        state: What `module.state_dict()` returns.
    """
    return {key: value for key, value in sorted(state.items()) if isinstance(value, Tensor)}


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a module, and the tensors of its `state_dict`, which may be overridden, by name."""
    return tensors_of(dict(module.named_parameters(remove_duplicate=False)) | dict(module.state_dict()))


def state_hash(tensors: Mapping[str, Tensor], more: Iterable[str] = ()) -> str:
    """Return a hash of tensors and their names, the same on each device.

    Args:
        tensors: From `tensors_of`.
        more: Further texts to include.
    """
    digest = hashlib.sha256()
    for key, value in tensors.items():
        digest.update(f"{key}{tuple(value.shape)}".encode())
        if value.numel():
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for text in more:
        digest.update(text.encode())
    return digest.hexdigest()[:HASH_LENGTH]


def identities(tensors: Mapping[str, Tensor]) -> list[tuple[int, int, float]]:
    """Return address, version and sum of tensors, which show in little time whether any of them has changed."""
    return [(value.data_ptr(), version_of(value), _sum(value)) for value in tensors.values()]


def version_of(tensor: Tensor) -> int:
    """Return PyTorch's count of in-place writes to a tensor, without those to `.data`; -1 in inference mode."""
    return -1 if tensor.is_inference() else tensor._version


def _sum(tensor: Tensor) -> float:
    """Return the sum of a tensor, also of 8-bit floating-point numbers, which PyTorch does not add up."""
    is_small = tensor.is_floating_point() and tensor.itemsize == 1
    return (tensor.float() if is_small else tensor).sum().item()
