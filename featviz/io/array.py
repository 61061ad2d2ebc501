"""Numbers as a value: frozen, comparable, and with a repr that makes them again."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError

Numbers = Any
"""Whatever `Array.of` takes: numbers in lists, a numpy array, a tensor, an `Array`. A value keeps it as an `Array`."""


@dataclass(frozen=True)
class Array:
    """An array of single-precision numbers that can stand in a recipe.

    Args:
        shape: of the array.
        data: its bytes, little-endian, compressed with zlib, in base 85.

    Raises:
        SettingError: the data do not fill the shape.

    >>> Array.of([[1.0, 2.0]]).shape
    (1, 2)
    """

    shape: tuple[int, ...]
    data: str

    def __post_init__(self) -> None:
        """Make sure that there are as many numbers as the shape says."""
        count = math.prod(self.shape)
        try:
            found = len(zlib.decompressobj().decompress(base64.b85decode(self.data), 4 * count + 1))
        except (ValueError, zlib.error):
            found = -1
        if found != 4 * count:
            raise SettingError(f"an array of shape {self.shape} needs {count} numbers, its data hold others")

    @classmethod
    def of(cls, numbers: Numbers) -> Array:
        """Take the numbers of a tensor, a numpy array or a list.

        Raises:
            SettingError: they are no numbers, or not finite.
        """
        if isinstance(numbers, Array):
            return numbers
        try:
            values = np.asarray(numbers.detach().float().cpu() if isinstance(numbers, Tensor) else numbers, dtype="<f4")
        except (TypeError, ValueError) as error:
            raise SettingError(f"{numbers!r} is no array of numbers") from error
        if not np.isfinite(values).all():
            raise SettingError(f"an array of shape {values.shape} holds infinities or no numbers; give finite ones")
        return cls(values.shape, base64.b85encode(zlib.compress(values.tobytes())).decode())

    @cached_property
    def tensor(self) -> Float[Tensor, "..."]:
        """The numbers; not to be written to."""
        raw = bytearray(zlib.decompress(base64.b85decode(self.data)))
        return torch.frombuffer(raw, dtype=torch.float32).view(self.shape) if raw else torch.empty(self.shape)
