"""Arrays of numbers as frozen values with an exact repr, so that objectives and recipes can hold them."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from featviz.errors import SettingError, shown

Numbers = Any
"""What `Array.of` accepts: nested lists of numbers, a numpy array, a tensor or an `Array`. Values store an `Array`."""
MAX_NUMBERS = 2**25
"""Most numbers of an `Array`. Encoding takes up to 180 bytes for each: 6 GB in all."""


@dataclass(frozen=True)
class Array:
    """An array of single-precision numbers that is hashable, comparable and rebuilt from its repr.

    Args:
        shape: Shape of the array.
        data: Its float32 values in little-endian byte order, compressed with zlib and encoded in base 85.

    Raises:
        SettingError: The data do not decode to as many numbers as the shape has, or these exceed `MAX_NUMBERS`.

    >>> Array.of([[1.0, 2.0]]).shape
    (1, 2)
    """

    shape: tuple[int, ...]
    data: str

    def __post_init__(self) -> None:
        """Check that the data fill the shape."""
        _check_count(math.prod(self.shape))
        size = 4 * math.prod(self.shape)
        try:
            # A recipe may come from a stranger: decompress at most one byte too many, however much the data unpack to.
            found = len(zlib.decompressobj().decompress(base64.b85decode(self.data), size + 1))
        except (ValueError, zlib.error):
            found = -1
        if found != size:
            raise SettingError(f"the data of an Array of shape {self.shape} must hold {size // 4} float32 numbers")

    @classmethod
    def of(cls, numbers: Numbers) -> Array:
        """Convert a tensor, a numpy array or nested lists.

        Args:
            numbers: Finite numbers of any shape. An `Array` is returned as it is.

        Returns:
            The numbers in single precision.

        Raises:
            SettingError: They cannot be converted to an array of numbers, exceed `MAX_NUMBERS`, or some are infinite or
                NaN.
        """
        if isinstance(numbers, Array):
            return numbers
        try:
            _check_count(_count(numbers))  # numpy makes a list of a range, which takes 42 bytes per number
            values = np.asarray(numbers.detach().float().cpu() if isinstance(numbers, Tensor) else numbers, dtype="<f4")
        except SettingError:  # also a `ValueError`
            raise
        except (TypeError, ValueError, OverflowError, RuntimeError, MemoryError) as error:
            expected = "give numbers, nested lists of them, a numpy array or a tensor"
            raise SettingError(f"{shown(numbers)} is not an array of numbers; {expected}") from error
        if not np.isfinite(values).all():
            raise SettingError(f"numbers must be finite; an array of shape {values.shape} has infinite or NaN values")
        return cls(values.shape, base64.b85encode(zlib.compress(values.tobytes())).decode())

    @cached_property
    def tensor(self) -> Float[Tensor, "..."]:
        """The numbers as a tensor, which is cached and must not be modified."""
        raw = bytearray(zlib.decompress(base64.b85decode(self.data)))
        return torch.frombuffer(raw, dtype=torch.float32).view(self.shape) if raw else torch.empty(self.shape)


def as_tensor(name: str, values: Shaped[np.ndarray, "..."] | Tensor) -> Tensor:
    """Return an array of a user as a tensor on the CPU, and a tensor without its gradient.

    Args:
        name: Name of the value, for the message.
        values: Real numbers; those of an array are copied.

    Raises:
        SettingError: It holds something else.
    """
    try:
        found = torch.from_numpy(values.copy()) if isinstance(values, np.ndarray) else values.detach().cpu().to_dense()
    except (TypeError, RuntimeError) as error:  # an array of text or objects, a tensor without values
        raise SettingError(f"{name} must hold real numbers, got {values.dtype}") from error
    if found.is_complex():
        raise SettingError(f"{name} must hold real numbers, got {values.dtype}")
    return found


def _count(numbers: Numbers) -> int:
    """Return how many numbers there are, without making those of a range."""
    if isinstance(numbers, list | tuple):
        return sum(map(_count, numbers))
    if isinstance(numbers, range):
        return len(numbers)
    return math.prod(numbers.shape) if isinstance(numbers, np.ndarray | Tensor) else 1


def _check_count(count: int) -> None:
    if count > MAX_NUMBERS:
        raise SettingError(f"an array must hold at most {MAX_NUMBERS} numbers, got {count}; give fewer")


def as_tuples(value: Any) -> Any:
    """Turn lists of JSON, also within lists and mappings, into tuples, which can be hashed."""
    if isinstance(value, dict):
        return {key: as_tuples(inner) for key, inner in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
