"""Description of a network's input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from featviz.checks import check_number, check_size
from featviz.errors import SettingError, shown
from featviz.interfaces import Size

MAX_CHANNELS = 100_000
"""Largest number of channels of an input."""
CHANNEL_ORDERS = ("RGB", "BGR")
LAYOUTS = {"NCHW": None, "NHWC": (1, -1), "NTCHW": (1, 2)}
"""Dimension orders of a batch, and from where to where the channels move."""
AXES = {"x": "length", "yx": "h, w", "zyx": "d, h, w", "tyx": "t, h, w"}
"""Names of the spatial axes that an input may have, and the names of their lengths in messages."""
DEFAULT_AXES = {len(axes): axes for axes in ("x", "yx", "zyx")}
"""Names of the axes by their number, where the last one is not time."""
ZERO_TO_ONE = ("yx", "tyx")
"""Axes of images and video, whose values are in [0, 1] by default."""
MAX_OUTSIDE = 0.5
"""Largest share of the values of a file that may be outside of the value range of the network's input."""
CLIP_STDS = 4.0
"""Default range of the values of signals and volumes, in standard deviations from the mean.

Of normally distributed values, 1 in 16 000 lies farther away.
"""


@dataclass(frozen=True)
class InputSpec:
    """Description of a network's input.

    Inputs have one spatial axis (signals), two (images) or three (volumes and video). featviz works with images in
    [0, 1], `(n, c, *size)`, whatever the number of axes; `normaliser` turns them into what the module expects, and
    `values` into values in the range of the data.

    Args:
        size: Length in px of each axis of the inputs that the network was trained on: `(4096,)` for a signal, height
            and width or one side for an image, `(32, 64, 64)` for a volume.
        mean: Mean of each channel, in the value range. Its length is the number of input channels.
        std: Standard deviation of each channel, > 0. The module gets `(value - mean) / std`.
        channel_order: Order in which the module expects the channels: `"RGB"` or `"BGR"`.
        layout: Dimension order of a batch that the module expects: `"NCHW"`, channels first; `"NHWC"`, channels last;
            or `"NTCHW"`, channels after the first axis, for video.
        axes: Names of the axes: `"x"`, `"yx"`, `"zyx"`, or `"tyx"` for video; empty to determine them from
            their number.
        value_range: Lowest and highest value of the data, as (-1, 1) for audio, or two quantiles where values are
            unbounded: images are clipped there. `None` for [0, 1] of images and video, and for 4 standard deviations
            on both sides of the mean of signals and volumes.

    Raises:
        SettingError: A value is out of its range, or `mean` and `std` have different lengths.

    >>> InputSpec(224, (0.5,), (0.5,)).size
    (224, 224)
    >>> InputSpec((4096,), (0,), (1,)).bounds
    ((-4.0,), (4.0,))
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "RGB"
    layout: str = "NCHW"
    axes: str = ""
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Convert and check the values."""
        object.__setattr__(self, "size", check_size("size", self.size))
        object.__setattr__(self, "mean", _numbers("mean", self.mean, "one number per channel, e.g. mean=(0.1307,)"))
        object.__setattr__(self, "std", _numbers("std", self.std, "one number per channel, e.g. std=(0.3081,)"))
        object.__setattr__(self, "axes", self.axes or DEFAULT_AXES[len(self.size)])
        if len(self.mean) != len(self.std) or not 1 <= len(self.mean) <= MAX_CHANNELS:
            raise SettingError(
                f"mean and std need one value per channel each, got {shown(self.mean)} and {shown(self.std)}"
            )
        if not all(map(math.isfinite, self.mean)):
            raise SettingError(f"mean must be finite, got {self.mean}")
        if not all(0 < each < math.inf for each in self.std):
            raise SettingError(f"std must be > 0, got {self.std}")
        self._check_range()
        if self.channel_order not in CHANNEL_ORDERS:
            raise SettingError(f"channel_order must be {' or '.join(CHANNEL_ORDERS)}, got {self.channel_order!r}")
        if self.layout not in self.layouts:
            raise SettingError(f"layout must be {' or '.join(self.layouts)}, got {self.layout!r}")
        if not isinstance(self.axes, str) or self.axes not in AXES or len(self.axes) != len(self.size):
            possible = [axes for axes in AXES if len(axes) == len(self.size)]
            raise SettingError(f"axes must be {' or '.join(possible)} for the size {self.size}, got {self.axes!r}")

    def _check_range(self) -> None:
        """Check that the lowest value is below the highest one, and the mean between them."""
        if self.value_range is not None:
            object.__setattr__(
                self, "value_range", _numbers("value_range", self.value_range, "the lowest and the highest value")
            )
            if len(self.value_range) != 2:
                raise SettingError(
                    f"value_range must be the lowest and the highest value, got {shown(self.value_range)}"
                )
            low, high = self.value_range
            check_number("the lowest value of value_range", low)
            check_number("the highest value of value_range", high, above=low)
        for mean, low, high in zip(self.mean, *self.bounds, strict=True):
            if not low <= mean <= high and (low, high) == (0, 1):
                raise SettingError(
                    f"mean must be in [0, 1], as the images are, got {self.mean}; for images in 0..255 divide mean and "
                    "std by 255"
                )
            if not low <= mean <= high:
                raise SettingError(f"mean must be in value_range, [{low:g}, {high:g}], got {self.mean}")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that a batch with this number of axes can have."""
        return tuple(name for name in LAYOUTS if name != "NTCHW" or len(self.size) == 3)

    @property
    def dims(self) -> str:
        """Names of the dimensions of a batch, for messages, such as `"n, 3, h, w"`."""
        return f"n, {self.channels}, {AXES[self.axes]}"

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest value of each channel, which are 0 and 1 in featviz's images."""
        if self.value_range is None and self.axes not in ZERO_TO_ONE:
            pairs = list(zip(self.mean, self.std, strict=True))
            return tuple(m - CLIP_STDS * s for m, s in pairs), tuple(m + CLIP_STDS * s for m, s in pairs)
        low, high = self.value_range or (0.0, 1.0)
        return (low,) * self.channels, (high,) * self.channels

    @property
    def content(self) -> dict[str, Any]:
        """The fields by name, for files and hashes, without `axes` and `value_range` where these are the defaults."""
        return without_defaults(vars(self))

    def values(self, images: Tensor) -> Tensor:
        """Return images in [0, 1], `(n, c, *size)`, as values in the range of the data.

        Args:
            images: In [0, 1].
        """
        low, high = (self._per_channel(bound, images) for bound in self.bounds)
        return low + (high - low) * images

    def images(self, values: Tensor) -> Tensor:
        """Return values in the range of the data, `(n, c, *size)`, as images in [0, 1]. Values outside are clipped.

        Args:
            values: Signals, images or volumes.
        """
        low, high = (self._per_channel(bound, values) for bound in self.bounds)
        return ((values - low) / (high - low)).clamp(0, 1)

    def check_values(self, values: Tensor, name: str) -> None:
        """Check that most values, `(n, c, *size)`, lie in the range of the data, so that `images` does not clip them.

        Args:
            values: Signals, volumes or video.
            name: What a message calls them.

        Raises:
            SettingError: More than half of the values lie outside.
        """
        low, high = (self._per_channel(bound, values) for bound in self.bounds)
        outside = ((values < low - 1e-4) | (values > high + 1e-4)).float().mean().item()
        if outside > MAX_OUTSIDE:
            lowest, highest = min(self.bounds[0]), max(self.bounds[1])
            raise SettingError(
                f"{outside:.0%} of the values of {name} are outside of the network's range, {lowest:g} to "
                f"{highest:g}; scale them as for the network, and save them as .npy"
            )

    def _per_channel(self, numbers: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(numbers, device=like.device).view(-1, *[1] * len(self.size))

    def normaliser(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from images in [0, 1], `(n, c, *size)`, to what the module expects.

        Args:
            like: A weight of the module, whose device and precision the result gets.
        """
        low, high = (self._per_channel(bound, like) for bound in self.bounds)
        scale = 1 / self._per_channel(self.std, like)
        shift, scale = (low - self._per_channel(self.mean, like)) * scale, (high - low) * scale
        move = LAYOUTS[self.layout]

        def normalise(images: Tensor) -> Tensor:
            # (value - mean) / std, where value = low + (high - low) * image, as one fused multiply-add
            normalised = torch.addcmul(shift, images, scale).to(like.dtype)
            normalised = normalised.flip(1) if self.channel_order == "BGR" else normalised
            return normalised.movedim(*move) if move else normalised

        return normalise

    def check(self, images: Tensor, label: str) -> None:
        """Check that images are a floating-point batch with the right number of axes and channels.

        Args:
            images: Any tensor.
            label: Name of the network, for the message.

        Raises:
            SettingError: `images` is not a tensor of floating-point numbers with these axes and channels.
        """
        if not isinstance(images, Tensor):
            raise SettingError(f"{label} expects images as a tensor ({self.dims}), got {shown(images)}")
        if images.ndim != 2 + len(self.size) or images.shape[1] != self.channels:
            raise SettingError(f"{label} expects images of shape ({self.dims}) in [0, 1], got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise SettingError(f"{label} expects floating-point images in [0, 1], got {images.dtype}")


def without_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an input specification without `axes` and `value_range` where these are the defaults.

    Args:
        content: The fields by name.
    """
    defaults = {"axes": DEFAULT_AXES.get(len(content.get("size", ()))), "value_range": None}
    return {key: value for key, value in content.items() if key not in defaults or value != defaults[key]}


def _numbers(name: str, given: Any, needed: str) -> tuple[float, ...]:
    try:
        values = given.tolist() if isinstance(given, Tensor) else given
        if isinstance(values, str):
            raise TypeError
        return tuple(map(float, islice(values, MAX_CHANNELS + 1)))  # a range may be huge
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(f"{name} must be a sequence with {needed}, got {shown(given)}") from error
