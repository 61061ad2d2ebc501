"""How a network is run during a render: in which precision, and how laid out in memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from featviz.errors import SettingError
from featviz.memory import read_bytes
from featviz.tiles import OVERLAP

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, repr=False)
class Plan:
    """How a network is run. The picture, and what is asked of it, stay in single precision whatever it says.

    A picture's recipe holds the plan that it was made by, because the last bits depend on it.

    Args:
        precision: of the network; `None` means the faster one, measured once for each machine, network and layer.
        channels_last: lay feature maps out with their channels last, where the network allows it.
        fold: fold batch normalisation into the convolutions, where that is found to change nothing.
        graph: on a GPU, record the pass of the network once and replay it, where that can be done.
        at_once: how many pictures run together; `None` means as many as fit in memory.
        max_memory: how much of it they may take, in bytes or as `"4GB"`; `None` means four fifths of what is free.
        tile: side in px of the pieces in which the network sees a view that is larger; `None` means the whole at once.
            A network of one size only sees pieces of that size.

    Raises:
        SettingError: no such precision or amount, fewer than one picture, or too small a tile.

    >>> Plan("bfloat16", max_memory="4GB")
    Plan(precision='bfloat16', max_memory='4GB')
    """

    precision: Precision | None = None
    channels_last: bool = True
    fold: bool = True
    graph: bool = True
    at_once: int | None = None
    max_memory: int | str | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.precision not in (None, *PRECISIONS):
            raise SettingError(f"no precision {self.precision!r}; give {' or '.join(PRECISIONS)}, or None to measure")
        if self.at_once is not None and self.at_once < 1:
            raise SettingError(f"{self.at_once} pictures at once are none; give 1 or more, or None for what fits")
        if self.tile is not None and self.tile < 2 * OVERLAP:
            raise SettingError(
                f"tiles of {self.tile} px are too small; give {2 * OVERLAP} or more, or None for the whole"
            )
        if self.max_memory is not None:
            read_bytes(self.max_memory)

    def __repr__(self) -> str:
        """Write the call, without what was left as it is."""
        given = [
            f"{key.name}={getattr(self, key.name)!r}" for key in fields(self) if getattr(self, key.name) != key.default
        ]
        return f"Plan({', '.join(given)})"
