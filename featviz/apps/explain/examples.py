"""Dataset examples: the photographs that excite units most, where in them, and others across the range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.gradients import guided
from featviz.apps.explain.scan import Scan, scanned
from featviz.io import contact_sheet, encode, read_photograph, save_picture, to_bytes
from featviz.network import Rectifying

TOP, REST = 5, 2
"""Photographs that are shown of a unit's strongest, and of its middling and its weakest."""
SIDE = 128
"""Px of crops."""


@dataclass(frozen=True, eq=False)
class Example:
    """A photograph, as a unit sees it.

    Args:
        file: where it is.
        response: of the unit, at the place where it is strongest.
        crop: what that place sees, in [0, 1].
        gradient: of the response in the crop's pixels, by guided backprop: what in it the unit answers to; `None` where
            that was not asked for.
    """

    file: Path
    response: float
    crop: Float[Tensor, "c side side"]
    gradient: Float[Tensor, "c side side"] | None


@dataclass(frozen=True)
class Reach:
    """Which px a place of a layer sees.

    Args:
        top: px from the middle of the place up to the first row, below 0.
        left: the same to the first column.
        bottom: the same down to the last row and 1 more.
        right: the same to the last column.
    """

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, eq=False)
class Examples:
    """What a folder holds for the units of a layer; the crops are cut when they are asked for.

    Args:
        network: whose units they are.
        layer: its name.
        channels: which units.
        scan: what was found in the folder.
        key: names the folder, the network and the layer.
    """

    network: fv.Network
    layer: str
    channels: tuple[int, ...]
    scan: Scan
    key: str

    def __repr__(self) -> str:
        """Say what it is of."""
        return f"<examples of {len(self.channels)} units of {self.layer or 'logit'} of {self.network.label}>"

    @property
    def goals(self) -> list[fv.objectives.Objective]:
        """An objective for each unit, to draw its own picture by."""
        if not self.layer:
            return [fv.objectives.Logit(channel) for channel in self.channels]
        return [fv.objectives.Channel(self.layer, channel) for channel in self.channels]

    def of(self, channel: int, which: str = "top", *, gradients: bool = False) -> list[Example]:
        """Cut the crops of one unit: the strongest first, or the weakest first, or those nearest to the middle.

        Args:
            channel: the unit's.
            which: `"top"`, `"middle"` or `"bottom"` of its range.
            gradients: find what in them the unit answers to.

        Raises:
            OutputError: a photograph is not there any more.
        """
        numbers, responses, places = (part[:, channel].tolist() for part in self.scan.found[which])
        images = [
            read_photograph(self.scan.files[number], size=self.network.size, channels=self.network.channels)
            for number in numbers
        ]
        if not images:
            return []
        back = self._gradients(torch.stack(images), channel, places) if gradients else [None] * len(images)
        boxes = [self._box(place) for place in places]
        pairs = zip(numbers, responses, images, back, boxes, strict=True)
        return [
            Example(self.scan.files[number], response, _cut(image, box), None if one is None else _cut(one, box))
            for number, response, image, one, box in pairs
        ]

    def mean(self, channel: int) -> Float[Tensor, "c side side"]:
        """Return the mean of a unit's strongest crops."""
        return torch.stack([example.crop for example in self.of(channel)]).mean(0)

    def sheet(self, pictures: fv.Rendering | None = None) -> np.ndarray:
        """Lay units out in two rows each: crops, the strongest first, and below each the gradient in its pixels.

        Args:
            pictures: of the same units, to stand before their crops.
        """
        rows: list[np.ndarray] = []
        labels: list[str] = []
        for i, channel in enumerate(self.channels):
            every = {which: self.of(channel, which, gradients=True) for which in self.scan.found}
            shown = [example for some in every.values() for example in some]
            before = {"mean": torch.stack([example.crop for example in every["top"]]).mean(0)}
            if pictures is not None:
                before = {f"{self.layer or 'logit'}:{channel}": _square(pictures.images[i]), **before}
            rows += [_pixels(image) for image in (*before.values(), *(example.crop for example in shown))]
            labels += [*before, *(f"{which}: {one.response:.3g}" for which, some in every.items() for one in some)]
            blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
            rows += [blank] * len(before) + [
                _pixels(_visible(one.gradient)) for one in shown if one.gradient is not None
            ]
            labels += [""] * (len(before) + len(shown))
        return contact_sheet(rows, labels, columns=len(rows) // (2 * len(self.channels)))

    def save(self, path: str | Path, pictures: fv.Rendering | None = None) -> Path:
        """Write the sheet to a .png, .jpg or .webp file.

        Raises:
            OutputError: the folder is missing or not writable, or the format is another.
        """
        return save_picture(self.sheet(pictures), Path(path))

    def _repr_png_(self) -> bytes:
        """Show itself in Jupyter."""
        return encode(self.sheet(), ".png")

    @cached_property
    def _grid(self) -> tuple[int, int] | None:
        """The rows and columns of the layer's places."""
        found = self.network.table[self.layer]
        if found.layout.kind == "map":
            return found.places[0], found.places[1]
        if found.layout.patch:
            return self.network.size[0] // found.layout.patch[0], self.network.size[1] // found.layout.patch[1]
        return None

    @cached_property
    def reach(self) -> Reach | None:
        """Which px the middle place sees, by the gradients of noise; `None` where the layer has no places."""
        if self._grid is None:
            return None
        size = self.network.size
        noise = torch.rand(4, self.network.channels, *size, generator=torch.Generator().manual_seed(0))
        images = noise.to(self.network.device).requires_grad_()
        with self.network.session([self.layer]) as forward, torch.enable_grad():
            middle = forward(images).at(self.layer, (self._grid[0] // 2, self._grid[1] // 2))
            (gradient,) = torch.autograd.grad(middle.square().sum(), images)
        touched = gradient.abs().sum((0, 1)).cpu() > 0
        rows, columns = (touched.any(dim).nonzero().flatten() for dim in (1, 0))
        if not len(rows):
            return None
        y, x = ((self._grid[i] // 2 + 0.5) * size[i] / self._grid[i] for i in (0, 1))
        return Reach(rows[0].item() - y, columns[0].item() - x, rows[-1].item() + 1 - y, columns[-1].item() + 1 - x)

    def _box(self, place: int) -> tuple[int, int, int, int]:
        """Return the rows and columns of the photograph that a place sees; a class token sees all."""
        size, grid, reach = self.network.size, self._grid, self.reach
        place -= self.network.table[self.layer].layout.prefix
        if grid is None or reach is None or place < 0:
            return 0, size[0], 0, size[1]
        sides = []
        for i, where in enumerate(divmod(place, grid[1])):
            middle = (where + 0.5) * size[i] / grid[i]
            low, high = ((reach.top, reach.bottom), (reach.left, reach.right))[i]
            length = min(size[i], max(1, round(high - low)))
            first = min(max(0, round(middle + low)), size[i] - length)  # at an edge it stays whole, and moves inside
            sides += [first, first + length]
        return sides[0], sides[1], sides[2], sides[3]

    def _gradients(self, images: Tensor, channel: int, places: Sequence[int]) -> Tensor:
        images = images.to(self.network.device).requires_grad_()
        with self.network.session([self.layer]) as forward, torch.enable_grad():
            with Rectifying(guided):
                units = forward(images).channels_first(self.layer)[:, channel].unsqueeze(-1).flatten(1)
            (gradient,) = torch.autograd.grad(units[range(len(places)), places].sum(), images)
        return gradient.cpu()


def examples(
    network: fv.Network,
    folder: str | Path,
    layer: str,
    channels: Sequence[int] | None = None,
    *,
    top: int = TOP,
    rest: int = REST,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Find the photographs that excite the units of a layer most, and some from the middle and the end of their range.

    The folder is gone through once, a few photographs in memory at a time; what was found is kept, and found again as
    long as neither the folder nor the network has changed.

    Args:
        network: whose units they are.
        folder: of photographs; those that cannot be read are left out.
        layer: its name, or `logit`.
        channels: which units; `None` means all.
        top: how many of the strongest photographs of each.
        rest: how many from the middle, and of the weakest.
        progress: called now and then with the photographs seen and those in all.

    Raises:
        AddressError: there is no such layer or channel.
        SettingError: an argument is out of its range.
        OutputError: the folder is missing, or holds no image that can be read.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2.
    """
    if top < 1 or rest < 0:
        raise fv.SettingError(f"{top} strongest and {rest} others cannot be shown; give 1 or more, and 0 or more")
    layer = "" if layer == "logit" else layer
    acts = network.capture(torch.full((1, network.channels, *network.size), 0.5), [layer])
    if channels is not None and not len(channels):
        raise fv.SettingError("no channels are given; give some, or None for all")
    for channel in channels or ():
        acts.channel(layer, channel)
    chosen = tuple(range(acts.channels_first(layer).shape[1]) if channels is None else channels)
    key, scan = scanned(network, Path(folder), layer, top, rest, progress)
    return Examples(network, layer, chosen, scan, key)


def _cut(image: Float[Tensor, "c h w"], box: tuple[int, int, int, int]) -> Float[Tensor, "c side side"]:
    top, bottom, left, right = box
    return _square(image[:, top:bottom, left:right])


def _square(image: Float[Tensor, "c h w"]) -> Float[Tensor, "c side side"]:
    return F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0]


def _visible(gradient: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Lay a gradient around grey."""
    return 0.5 + 0.5 * (gradient / gradient.abs().quantile(0.999).clamp(min=1e-12)).clamp(-1, 1)


def _pixels(image: Float[Tensor, "c h w"]) -> np.ndarray:
    return to_bytes((image[:3] if len(image) >= 3 else image.mean(0, keepdim=True).expand(3, -1, -1)).numpy())
