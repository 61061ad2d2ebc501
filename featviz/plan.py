"""How a network is run during a render: in which precision, and how laid out in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featviz.errors import SettingError

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Plan:
    """How a network is run. The picture, and what is asked of it, stay in single precision whatever it says.

    A picture's recipe holds the plan that it was made by, because the last bits depend on it.

    Args:
        precision: of the network; `None` means the faster one, measured once for each machine, network and layer.
        channels_last: lay feature maps out with their channels last, where the network allows it.
        fold: fold batch normalisation into the convolutions, where that is found to change nothing.

    Raises:
        SettingError: no such precision.

    >>> Plan("bfloat16")
    Plan(precision='bfloat16', channels_last=True, fold=True)
    """

    precision: Precision | None = None
    channels_last: bool = True
    fold: bool = True

    def __post_init__(self) -> None:
        """Check the precision."""
        if self.precision not in (None, *PRECISIONS):
            raise SettingError(f"no precision {self.precision!r}; give {' or '.join(PRECISIONS)}, or None to measure")
