"""Values that hold tensors in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from featviz.network.trees import rebuilt


@runtime_checkable
class Movable(Protocol):
    """A value other than a tensor that can be copied to a device."""

    def to(self, device: torch.device) -> Any:
        """Return a copy on a device.

        Args:
            device: Where to.
        """


def map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a value with each tensor in its tuples, lists and dicts replaced.

    Args:
        change: Returns what replaces a tensor.
        value: Tensors and plain values.

    Raises:
        TypeError: There is an object of another class, which may hold tensors, too.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return rebuilt(value, [map_tensors(change, each) for each in value])
    if isinstance(value, dict):
        return {key: map_tensors(change, each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is neither a tensor nor a plain value")


def to_device(value: Any, device: torch.device) -> Any:
    """Copy a value to a device, including tensors inside of tuples, lists and dicts.

    Args:
        value: Tensors, other movable and plain values.
        device: Where to.
    """
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Movable):
        return value.to(device)
    if isinstance(value, tuple | list):
        return rebuilt(value, [to_device(each, device) for each in value])
    return {key: to_device(each, device) for key, each in value.items()} if isinstance(value, dict) else value


def list_tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a value in order."""
    tensors: list[Tensor] = []
    map_tensors(tensors.append, value)
    return tensors


def same(one: Any, two: Any) -> bool:
    """Whether two values have the same structure, equal tensors and equal plain values."""
    if map_tensors(_kind, one) != map_tensors(_kind, two):
        return False
    return all(torch.equal(a, b) for a, b in zip(list_tensors(one), list_tensors(two), strict=True))


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def size_in_bytes(value: Any) -> int:
    """Return the size of the tensors of a value; 0 if it holds objects of other classes."""
    try:
        return sum(tensor.nbytes for tensor in list_tensors(value))
    except TypeError:
        return 0
