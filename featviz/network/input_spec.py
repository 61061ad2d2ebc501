"""What a network expects of its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz.checks import check_size
from featviz.errors import SettingError, shown
from featviz.interfaces import Size

CHANNEL_ORDERS = ("RGB", "BGR")
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class InputSpec:
    """What a network expects of its input.

    featviz works with RGB images in [0, 1], (n, c, h, w). `normaliser` turns them into what the module expects.

    Args:
        size: Height and width in px, or one side, of the images that the network was trained on.
        mean: Mean of each channel, in [0, 1]. Its length is the number of input channels.
        std: Standard deviation of each channel, > 0. The module gets `(image - mean) / std`.
        channel_order: Order in which the module expects the channels: `"RGB"` or `"BGR"`.
        layout: Dimension order of a batch that the module expects: `"NCHW"` or `"NHWC"`.

    Raises:
        SettingError: A value is out of its range, or `mean` and `std` have different lengths.

    >>> InputSpec(224, (0.5,), (0.5,)).size
    (224, 224)
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "RGB"
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        """Convert and check the values."""
        object.__setattr__(self, "size", check_size("size", self.size))
        object.__setattr__(self, "mean", _numbers("mean", self.mean))
        object.__setattr__(self, "std", _numbers("std", self.std))
        if len(self.mean) != len(self.std) or not self.mean:
            raise SettingError(f"mean and std need one value per channel each, got {self.mean} and {self.std}")
        if not all(0 < each < math.inf for each in self.std):
            raise SettingError(f"std must be > 0, got {self.std}")
        if not all(0 <= each <= 1 for each in self.mean):
            raise SettingError(
                f"mean must be in [0, 1], as the images are, got {self.mean}; for images in 0..255 divide mean and "
                "std by 255"
            )
        if self.channel_order not in CHANNEL_ORDERS:
            raise SettingError(f"channel_order must be {' or '.join(CHANNEL_ORDERS)}, got {self.channel_order!r}")
        if self.layout not in LAYOUTS:
            raise SettingError(f"layout must be {' or '.join(LAYOUTS)}, got {self.layout!r}")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    def normaliser(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from images in [0, 1], (n, c, h, w), to what the module expects.

        Args:
            like: A weight of the module, whose device and precision the result gets.
        """
        scale = (1 / torch.tensor(self.std, device=like.device)).view(-1, 1, 1)
        shift = -torch.tensor(self.mean, device=like.device).view(-1, 1, 1) * scale

        def normalise(images: Tensor) -> Tensor:
            # (image - mean) / std as one fused multiply-add
            normalised = torch.addcmul(shift, images, scale).to(like.dtype)
            normalised = normalised.flip(1) if self.channel_order == "BGR" else normalised
            return normalised.permute(0, 2, 3, 1) if self.layout == "NHWC" else normalised

        return normalise

    def check(self, images: Tensor, label: str) -> None:
        """Check that images are a floating-point batch with the right number of channels.

        Args:
            images: Any tensor.
            label: Name of the network, for the message.

        Raises:
            SettingError: They are not.
        """
        if not isinstance(images, Tensor):
            raise SettingError(f"{label} expects images as a tensor (n, {self.channels}, h, w), got {shown(images)}")
        if images.ndim != 4 or images.shape[1] != self.channels:
            expected = f"(n, {self.channels}, h, w)"
            raise SettingError(f"{label} expects images of shape {expected} in [0, 1], got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise SettingError(f"{label} expects floating-point images in [0, 1], got {images.dtype}")


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    values = given.tolist() if isinstance(given, Tensor) else given
    try:
        if isinstance(values, str):
            raise TypeError
        return tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"{name} must be a sequence with one number per channel, e.g. {name}=(0.1307,), got {shown(values)}"
        ) from error
