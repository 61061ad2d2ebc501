"""Check what users pass to embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.checks import as_whole
from featviz.errors import SettingError, shown


def as_numbers(value: Any, wanted: str) -> Tensor:
    """Return numbers in single precision, on the CPU.

    Args:
        value: An array, a tensor or nested lists.
        wanted: Start of the message, which says what is wanted.

    Raises:
        SettingError: They are no array of real numbers.
    """
    rows = value if isinstance(value, list | tuple) else [value]
    try:
        if any(isinstance(row, range | str | bytes) for row in rows):  # NumPy makes a list of a range, however long
            raise TypeError
        array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError
        with np.errstate(over="ignore"):  # infinite numbers are refused later
            return torch.from_numpy(np.array(array, np.float32))
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError, RuntimeError) as error:
        raise SettingError(f"{wanted}, got {shown(value)}") from error


def check_count(name: str, value: Any) -> int:
    """Return a whole number that is at least 1.

    Args:
        name: Name of the argument, for the message.
        value: Its value.

    Raises:
        SettingError: `value` is not a whole number >= 1.
    """
    count = as_whole(name, value)
    if count < 1:
        raise SettingError(f"{name} must be >= 1, got {count}")
    return count
