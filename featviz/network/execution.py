"""Execution settings: precision, memory format, chunk size and tiles."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Literal

from featviz.checks import check_flag, check_number
from featviz.errors import SettingError, shown

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
"""The precisions in which a network can run."""
MIN_TILE = 128
"""Smallest side of a tile in px: twice the overlap of neighbouring tiles."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, repr=False)
class Execution:
    """Execution settings. Images and scores stay in single precision in every precision of the network.

    The recipe of an image stores the execution that rendered it, because the last bits depend on it.

    Args:
        precision: `"float32"` or `"bfloat16"`; `None` for the faster one, measured once per machine, network and layer.
        channels_last: Store feature maps with their channels last in memory, where the network allows it.
        fold: Fold batch normalisation into the preceding convolution, where that changes no other activation.
        graph: On a CUDA GPU, record whole steps as a CUDA graph where possible, or else the network's passes.
        benchmark: On a CUDA GPU, let cuDNN benchmark its convolution algorithms. This takes seconds for each new number
            or size of images in a process, so it pays off for many renders of the same kind.
        chunk_size: Number of images that run together; `None` for as many as fit in memory.
        max_memory: Largest amount of memory to use, in bytes or as `"4GB"`; `None` for four fifths of what is free.
        tile: Largest side in px of the tiles into which a larger view is cut; `None` for no tiles. For a network of
            fixed input size, tiles have that size.

    Raises:
        SettingError: A value is out of its range.

    >>> Execution("bfloat16", max_memory="4GB")
    Execution(precision='bfloat16', max_memory='4GB')
    """

    precision: Precision | None = None
    channels_last: bool = True
    fold: bool = True
    graph: bool = True
    benchmark: bool = False
    chunk_size: int | None = None
    max_memory: int | str | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.precision not in (None, *PRECISIONS):
            raise SettingError(f"precision must be {', '.join(PRECISIONS)} or None, got {self.precision!r}")
        for flag in ("channels_last", "fold", "graph", "benchmark"):
            check_flag(flag, getattr(self, flag))
        if self.chunk_size is not None:
            note = "(or None for what fits in memory)"
            check_number("chunk_size", self.chunk_size, at_least=1, whole=True, note=note)
        if self.tile is not None:
            check_number("tile", self.tile, at_least=MIN_TILE, whole=True, note="(px, or None for no tiles)")
        if self.max_memory is not None:
            parse_bytes(self.max_memory)

    def __repr__(self) -> str:
        """Return the call, without values that are the default."""
        given = [
            f"{key.name}={getattr(self, key.name)!r}" for key in fields(self) if getattr(self, key.name) != key.default
        ]
        return f"Execution({', '.join(given)})"


def parse_bytes(amount: int | str) -> int:
    """Parse an amount of memory, in bytes or as text.

    Raises:
        SettingError: It cannot be parsed, or is not > 0.

    >>> parse_bytes("1.5GB") == 1.5 * 2**30
    True
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(amount), re.IGNORECASE)
    if not found or not 1 <= float(found[1]) * _UNITS[found[2].upper()] < math.inf:
        raise SettingError(
            f"max_memory must be a number of bytes > 0, or text such as 800MB or 4GB, got {shown(amount)}"
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


def format_bytes(amount: float) -> str:
    """Format an amount of memory in bytes.

    >>> format_bytes(1.5 * 2**30), format_bytes(20 * 2**20)
    ('1.5 GB', '20 MB')
    """
    return f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{max(1, round(amount / 2**20))} MB"
