"""The photographs that excite units most, and where in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import torch
import torch.nn.functional as F
from torch import Tensor

import featviz as fv

TOP = 5
"""Photographs that are shown of a unit."""
SIDE = 128
"""Px of their crops."""
BATCH = 32


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


def webp(image: Tensor) -> bytes:
    """Compress an image (3 or 1, h, w) in [0, 1] for a page."""
    pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).expand(-1, -1, 3).numpy()
    return iio.imwrite("<bytes>", pixels, extension=".webp", quality=85)


def top_crops(network: fv.Network, layer: str, folder: str | Path, count: int = TOP) -> list[list[Tensor]]:
    """Find for each channel of a layer the photographs in which some place excites it most.

    Args:
        network: what looks at them.
        layer: its name.
        folder: of photographs, which are gone through twice, a few in memory at a time.
        count: how many of each channel.

    Returns:
        For each channel, its crops, cut to what the place sees and brought to one size, the strongest first.
    """
    best, places = torch.empty(0), torch.empty(0, dtype=torch.long)
    which, seen = torch.empty(0, dtype=torch.long), 0
    for batch in _batches(network, folder):
        with torch.no_grad():
            units = network.capture(batch, [layer]).units(layer).cpu()
        strongest, place = units.unsqueeze(-1).flatten(2).max(2)
        index = torch.arange(seen, seen + len(batch))[:, None].expand_as(place)
        seen += len(batch)
        if not best.numel():
            best, places, which = strongest, place, index
        else:
            best, places, which = (torch.cat(pair) for pair in ((best, strongest), (places, place), (which, index)))
        best, kept = best.topk(min(count, len(best)), dim=0)
        places, which = places.gather(0, kept), which.gather(0, kept)
    reach, grid, prefix = reach_of(network, layer), _grid(network, layer), network.table[layer].layout.prefix
    crops: list[list[Tensor]] = [[torch.empty(0)] * len(best) for _ in range(best.shape[1])]
    photographs = (image for batch in _batches(network, folder) for image in batch)
    for number, image in enumerate(photographs):
        for rank, channel in (which == number).nonzero().tolist():
            crops[channel][rank] = _crop(image, int(places[rank, channel]) - prefix, grid, reach)
    return crops


def reach_of(network: fv.Network, layer: str) -> Reach | None:
    """Find which px the middle place of a layer sees, by the gradients of noise; `None` where it has no places."""
    grid = _grid(network, layer)
    if grid is None:
        return None
    noise = torch.rand(4, network.channels, *network.size, generator=torch.Generator().manual_seed(0))
    images = noise.to(network.device).requires_grad_()
    with network.watch([layer]) as see, torch.enable_grad():
        middle = see(images).at(layer, (grid[0] // 2, grid[1] // 2))
        (gradient,) = torch.autograd.grad(middle.square().sum(), images)
    touched = gradient.abs().sum((0, 1)).cpu() > 0
    rows, columns = (touched.any(dim).nonzero().flatten() for dim in (1, 0))
    if not len(rows):
        return None
    y, x = ((grid[i] // 2 + 0.5) * network.size[i] / grid[i] for i in (0, 1))
    return Reach(rows[0].item() - y, columns[0].item() - x, rows[-1].item() + 1 - y, columns[-1].item() + 1 - x)


def _grid(network: fv.Network, layer: str) -> tuple[int, int] | None:
    """Return the rows and columns of a layer's places."""
    found = network.table[layer]
    if found.layout.kind == "map":
        return found.places[0], found.places[1]
    if found.layout.patch:
        return network.size[0] // found.layout.patch[0], network.size[1] // found.layout.patch[1]
    return None


def _crop(image: Tensor, place: int, grid: tuple[int, int] | None, reach: Reach | None) -> Tensor:
    """Cut out what a place sees, as far as it lies in the image; a class token, which is before the first, sees all."""
    if grid is None or reach is None or place < 0:
        return _square(image)
    height, width = image.shape[1:]
    y, x = (place // grid[1] + 0.5) * height / grid[0], (place % grid[1] + 0.5) * width / grid[1]
    top, left = max(0, round(y + reach.top)), max(0, round(x + reach.left))
    return _square(image[:, top : max(top + 1, round(y + reach.bottom)), left : max(left + 1, round(x + reach.right))])


def _square(image: Tensor) -> Tensor:
    return F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0]


def _batches(network: fv.Network, folder: str | Path) -> Iterator[Tensor]:
    images: list[Tensor] = []
    for _, image in fv.photographs(folder, size=network.size, channels=network.channels):
        images.append(image)
        if len(images) == BATCH:
            yield torch.stack(images)
            images = []
    if images:
        yield torch.stack(images)


def of_classes(names: Sequence[str], folder: str | Path, most: int = 3) -> dict[str, list[Tensor]]:
    """Find photographs of classes: those whose file, or folder, is called like the class, but for numbers.

    Args:
        names: of the classes.
        folder: of photographs.
        most: how many of each.
    """
    known = {_plain(name): name for name in names}
    found: dict[str, list[Tensor]] = {}
    for file, image in fv.photographs(folder, size=SIDE):
        name = known.get(_plain(file.stem)) or known.get(_plain(file.parent.name))
        if name and len(found.setdefault(name, [])) < most:
            found[name].append(image)
    return found


def _plain(name: str) -> str:
    words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in name.lower()).split()
    return " ".join(word for word in words if not word.isdigit())
