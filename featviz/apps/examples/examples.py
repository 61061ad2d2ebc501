"""Dataset examples: photographs that activate the channels of a layer most, least and in between, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.examples.scan import RANGES, Range, Scan, scan_folder
from featviz.apps.explain.drawing import draw
from featviz.apps.explain.methods.gradients import guided_rectifier
from featviz.apps.shared.arguments.inputs import read_input
from featviz.apps.shared.arguments.probe import check_channels, noise
from featviz.apps.shared.pages.input_pictures import draw_input
from featviz.engine import entry_point
from featviz.io import auto_bar, contact_sheet, encode, has_matplotlib, resize, save_image, to_bytes
from featviz.network import OUTPUT, LayerLike, Rectifying

CROP_SIDE = 128
"""Side of crops in px."""
GRADIENT_QUANTILE = 0.999
"""Quantile of the absolute gradient that is shown at full contrast."""

SIGNAL_CELL = 240
"""Width of the picture of a signal on a sheet, in px."""

Box = tuple[int, ...]
"""First and end position along each axis in px: first row, end row, first column and end column of an image. The ends
are not included."""


@dataclass(frozen=True)
class Place:
    """Where in a photograph a channel has its largest activation.

    Args:
        file: Path of the photograph.
        activation: Activation of the channel there.
        box: Receptive field of the position, in px of the network's input: the photograph's largest centred part
            with the aspect ratio of the input, at the input size.
    """

    file: Path
    activation: float
    box: Box


@dataclass(frozen=True, eq=False)
class Example:
    """A photograph for a channel, cropped to the position with the largest activation.

    Args:
        file: Path of the photograph.
        activation: Activation of the channel at this position.
        crop: The receptive field of the position, in [0, 1]: (c, 128, 128), and in their own size for signals and
            volumes.
        gradient: Gradient of the activation in the crop, by guided backpropagation: the pixels that raise it. `None`
            if it was not requested.
    """

    file: Path
    activation: float
    crop: Float[Tensor, "c *size"]
    gradient: Float[Tensor, "c *size"] | None


@dataclass(frozen=True)
class FieldOffsets:
    """Edges of a receptive field in px, relative to the centre of its position.

    Args:
        first: Offset of the first px along each axis, usually < 0; of an image, of its first row and first column.
        end: Offset of the px after the last along each axis.
    """

    first: tuple[float, ...]
    end: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Examples:
    """Photographs of a folder for the channels of a layer. Crops are computed when they are requested.

    Args:
        network: The network.
        layer: Name of the layer; empty for the class logits.
        channels: Indices of the channels.
        scan: Result of the scan of the folder.
        key: Hash of the folder, the network and the layer.
    """

    network: fv.Network
    layer: str
    channels: tuple[int, ...]
    scan: Scan
    key: str

    def __repr__(self) -> str:
        """Name the layer and the network, and count the channels."""
        return f"<examples of {len(self.channels)} channels of {self._layer_title} of {self.network.label}>"

    @property
    def objectives(self) -> list[fv.objectives.Objective]:
        """An objective for each channel, to render it next to its examples."""
        if self.layer == OUTPUT:
            return [fv.objectives.Logit(channel) for channel in self.channels]
        return [fv.objectives.Channel(self.layer, channel) for channel in self.channels]

    def places(self, channel: int, which: Range = "top") -> list[Place]:
        """Return where the examples of one channel are, without reading the photographs.

        Args:
            channel: Index of the channel.
            which: As for `of`.

        Returns:
            The places, in the order of the examples.
        """
        columns = zip(*(column[:, channel].tolist() for column in self.scan.ranked[which]), strict=True)
        return [
            Place(self.scan.files[index], activation, self._box(position)) for index, activation, position in columns
        ]

    def of(self, channel: int, which: Range = "top", *, gradients: bool = False) -> list[Example]:
        """Return the examples of one channel.

        Args:
            channel: Index of the channel.
            which: `"top"` for the highest activations in descending order, `"bottom"` for the lowest in ascending
                order, `"middle"` for those nearest to the median.
            gradients: Compute the gradient of the activation in each crop.

        Returns:
            The examples.

        Raises:
            OutputError: A photograph is no longer there.
        """
        places = self.places(channel, which)
        images = [read_input(place.file, self.network.input) for place in places]
        if not images:
            return []
        positions = self.scan.ranked[which].positions[:, channel].tolist()
        found = self._gradients(torch.stack(images), channel, positions) if gradients else [None] * len(images)
        return [
            Example(
                place.file,
                place.activation,
                _crop(image, place.box),
                None if gradient is None else _crop(gradient, place.box),
            )
            for place, image, gradient in zip(places, images, found, strict=True)
        ]

    def mean(self, channel: int) -> Float[Tensor, "c *size"]:
        """Return the mean of the crops with the highest activations of a channel."""
        return torch.stack([example.crop for example in self.of(channel)]).mean(0)

    def sheet(self, renderings: fv.Rendering | None = None) -> np.ndarray:
        """Draw two rows per channel: the mean of the top crops and the crops, and the gradients below them.

        Args:
            renderings: One image per channel, from `objectives`, to show first in each row; `None` for none.

        Returns:
            8-bit RGB, (h, w, 3).
        """
        cells: list[np.ndarray] = []
        labels: list[str] = []
        for i, channel in enumerate(self.channels):
            examples = {name: self.of(channel, name, gradients=True) for name in RANGES}
            shown = [example for some in examples.values() for example in some]
            first = {"mean of top": torch.stack([example.crop for example in examples["top"]]).mean(0)}
            if renderings is not None:
                first = {f"{self._layer_title}:{channel}": self._rendered(renderings.images[i], channel), **first}
            cells += [self._pixels(image) for image in (*first.values(), *(example.crop for example in shown))]
            labels += [*first, *(f"{name}: {one.activation:.3g}" for name, some in examples.items() for one in some)]
            cells += [np.full_like(cells[-1], 255)] * len(first)
            cells += [self._gradient_pixels(one.crop, one.gradient) for one in shown if one.gradient is not None]
            labels += [""] * len(first) + ["gradient"] * len(shown)
        return contact_sheet(cells, labels, columns=len(cells) // (2 * len(self.channels)))

    def save(self, path: str | Path, renderings: fv.Rendering | None = None) -> Path:
        """Write the sheet to a file.

        Args:
            path: A .png, .jpg or .webp file.
            renderings: One image per channel, from `objectives`, to show first in each row; `None` for none.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        return save_image(self.sheet(renderings), Path(path))

    def _repr_png_(self) -> bytes | None:
        """Show the sheet in Jupyter; signals as text where matplotlib is not installed."""
        return encode(self.sheet(), ".png") if self.network.input.axes != "x" or has_matplotlib() else None

    @property
    def _layer_title(self) -> str:
        return self.layer or "logit"

    def _rendered(self, image: Float[Tensor, "c *size"], channel: int) -> Float[Tensor, "c *size2"]:
        """Return a rendering at the size of crops: resized, or of a signal or volume the receptive field."""
        if len(self.network.size) == 2:
            return _square(image)
        with torch.no_grad():
            acts = self.network.capture(image[None], [self.layer])
            position = int(acts.channels_first(self.layer)[0, channel].argmax())
        return _crop(image, self._box(position))

    def _pixels(self, image: Float[Tensor, "c *size"]) -> np.ndarray:
        """Return a crop as 8-bit RGB."""
        axes = self.network.input.axes
        return _pixels(image) if axes == "yx" else draw_input(image, axes, SIGNAL_CELL)

    def _gradient_pixels(self, crop: Float[Tensor, "c *size"], gradient: Float[Tensor, "c *size"]) -> np.ndarray:
        """Return a gradient as 8-bit RGB: an image on grey; of a signal or a volume, colours over the crop."""
        axes = self.network.input.axes
        if axes == "yx":
            return _pixels(_on_grey(gradient))
        total = gradient.sum(0)
        scale = total.abs().flatten().quantile(GRADIENT_QUANTILE).clamp(min=1e-12)
        return draw(crop, (total / scale).clamp(-1, 1), axes, width=SIGNAL_CELL)

    @cached_property
    def _grid(self) -> tuple[int, ...] | None:
        """Number of the layer's positions along each axis; `None` where it has none."""
        found = self.network.layer(self.layer)
        return found.map_size if found.layout.kind == "map" else found.layout.grid(self.network.size)

    @cached_property
    def receptive_field(self) -> FieldOffsets | None:
        """Receptive field of the central position, by the gradients of noise; `None` where the layer has no positions.

        A pixel belongs to it if any of four noise images has a gradient there: with one image alone, rectifiers that
        happen to be off could hide a pixel. Unlike a computation from kernel sizes, this holds for any architecture.
        """
        if self._grid is None:
            return None
        size = self.network.size
        images = noise(self.network, 4).to(self.network.device).requires_grad_()
        with self.network.session([self.layer]) as forward, torch.enable_grad():
            center = forward(images).at(self.layer, tuple(side // 2 for side in self._grid))
            # The square gives each channel a weight of its own, so that channels do not cancel as in a plain sum.
            (gradient,) = torch.autograd.grad(center.square().sum(), images)
        touched = (gradient.abs().sum((0, 1)).cpu() > 0).nonzero()
        if not len(touched):
            return None
        lowest, highest = touched.amin(0).tolist(), touched.amax(0).tolist()
        middle = [(count // 2 + 0.5) * side / count for count, side in zip(self._grid, size, strict=True)]
        return FieldOffsets(
            tuple(low - at for low, at in zip(lowest, middle, strict=True)),
            tuple(high + 1 - at for high, at in zip(highest, middle, strict=True)),
        )

    def _box(self, position: int) -> Box:
        """Return the receptive field of a position in px: the whole photograph for a class token or a vector."""
        size, grid, field = self.network.size, self._grid, self.receptive_field
        layout = self.network.layer(self.layer).layout
        cells: Sequence[int] | None = layout.cell(position, size)
        if layout.kind == "map" and grid:
            cells = [int(each) for each in np.unravel_index(position, grid)]
        if grid is None or field is None or cells is None:
            return tuple(edge for side in size for edge in (0, side))
        box: list[int] = []
        for cell, count, side, low, high in zip(cells, grid, size, field.first, field.end, strict=True):
            center = (int(cell) + 0.5) * side / count
            length = min(side, max(1, round(high - low)))
            first = min(max(0, round(center + low)), side - length)  # at an edge, move it inside at full length
            box += [first, first + length]
        return tuple(box)

    def _gradients(self, images: Tensor, channel: int, positions: Sequence[int]) -> Tensor:
        """Return the gradient of one position's activation per image, by guided backpropagation."""
        images = images.to(self.network.device).requires_grad_()
        with self.network.session([self.layer]) as forward, torch.enable_grad():
            with Rectifying(guided_rectifier):
                maps = forward(images).channels_first(self.layer)[:, channel].unsqueeze(-1).flatten(1)
            (gradient,) = torch.autograd.grad(maps[range(len(positions)), positions].sum(), images)
        return gradient.cpu()


@entry_point(any_axes=True)
def examples(
    network: fv.Network,
    photographs: str | Path,
    layer: LayerLike,
    channels: Sequence[int] | None = None,
    *,
    top: int = 5,
    rest: int = 2,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Examples:
    """Find the photographs that activate the channels of a layer most, and some with median and lowest activation.

    A photograph ranks by the channel's largest activation over all positions. The folder is read once, a few
    photographs in memory at a time. The result is cached until the folder or the network changes.

    Args:
        network: The network.
        photographs: Folder of photographs, with all folders below it. Files that cannot be read are skipped.
        layer: Name of the layer, or `"logit"` for the classes.
        channels: Indices of the channels; `None` for all.
        top: Number of photographs with the highest activation per channel, >= 1.
        rest: Number of photographs near the median, and number with the lowest activation, >= 0.
        progress: Called after each batch with the number of files read and the number of files.

    Returns:
        The ranked photographs, from which crops and sheets are made.

    Raises:
        AddressError: There is no such layer or channel.
        SettingError: An argument is out of its range.
        OutputError: The folder is missing, or has no image that can be read.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2.
    """
    if top < 1:
        raise fv.SettingError(f"top must be >= 1, got {top} (default 5)")
    if rest < 0:
        raise fv.SettingError(f"rest must be >= 0, got {rest} (default 2)")
    name = OUTPUT if layer == "logit" else network.name_of(layer)
    assert name is not None
    chosen = tuple(check_channels(network, name, channels))
    key, scan = scan_folder(network, Path(photographs), name, top, rest, progress)
    return Examples(network, name, chosen, scan, key)


def _crop(image: Float[Tensor, "c *size"], box: Box) -> Float[Tensor, "c *size2"]:
    part = image[(slice(None), *(slice(*edges) for edges in zip(box[::2], box[1::2], strict=True)))]
    return _square(part) if part.ndim == 3 else part


def _square(image: Float[Tensor, "c h w"]) -> Float[Tensor, "c side side"]:
    """Resize an image to the side of crops."""
    return resize(image[None], (CROP_SIDE, CROP_SIDE))[0]


def _on_grey(gradient: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Map a gradient to [0, 1] with 0 at mid-grey."""
    scale = gradient.abs().quantile(GRADIENT_QUANTILE).clamp(min=1e-12)
    return 0.5 + 0.5 * (gradient / scale).clamp(-1, 1)


def _pixels(image: Float[Tensor, "c h w"]) -> np.ndarray:
    """Return an image as 8-bit RGB; of other than three or four channels, the mean."""
    return to_bytes((image[:3] if len(image) >= 3 else image.mean(0, keepdim=True).expand(3, -1, -1)).numpy())
