"""Find the photograph that an image resembles most, and mark images that are copies of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.arguments.main_blocks import block_at
from featviz.engine import entry_point
from featviz.io import read_photograph, resize

DUPLICATE = 0.98
"""Photographs with at least this similarity count as duplicates, and are left out of the limit."""
LOWEST_LIMIT = 0.65
"""Smallest limit, as few photographs tell little about how similar two can be.

Source: measured; docs/quality.md, "Copies".
"""
DEPTH = 0.6
"""Relative depth of the compared layer. Source: measured; docs/quality.md."""
GRID = 7
"""Rows and columns to which a feature map is reduced, so that small shifts and rotations of a copy do not hide it."""
SHIFTS = (-1, 0, 1)
"""Shifts of the grid, in cells, at which an image and a photograph are compared."""
LEAST_ENERGY = 1e-12


@dataclass(frozen=True)
class Nearest:
    """The photograph that an image resembles most.

    Args:
        file: The photograph.
        similarity: Similarity to it, in [-1, 1].
        limit: Largest similarity of two different photographs of the unit, at least `LOWEST_LIMIT`.
    """

    file: Path
    similarity: float
    limit: float

    @property
    def is_copy(self) -> bool:
        """Whether the image is closer to the photograph than different photographs of the unit are to each other."""
        return self.similarity > self.limit

    def __str__(self) -> str:
        """Name the photograph, and say whether the image is a copy."""
        text = f"nearest photograph: {self.file.name} (similarity {self.similarity:.2f}"
        text += f"; different photographs have up to {self.limit:.2f})"
        return f"{text}: a copy, not a visualization" if self.is_copy else text


@entry_point
def nearest_photographs(
    network: fv.Network, images: Float[Tensor, "n c h w"], references: Sequence[str | Path]
) -> list[Nearest]:
    """Return for each image the photograph that it resembles most, with the same content at about the same places.

    Feature maps of a late layer are averaged to 7 x 7 cells, and the mean over the photographs is subtracted. The
    similarity is the cosine of these maps, the largest over mirroring and shifts by up to one cell. An image is a copy
    if it is closer to a photograph than any two different photographs are to each other.

    Args:
        network: What compares them; best another one than rendered the images.
        images: In [0, 1].
        references: Two or more files of photographs.

    Returns:
        One per image.

    Raises:
        SettingError: There are fewer than two photographs, or the network has no feature map.
        OutputError: A file cannot be read.
    """
    files = [Path(file) for file in references]
    if len(files) < 2:
        raise fv.SettingError(f"copies are told from two or more photographs, got {len(files)}; give more of the unit")
    layer = block_at(network, DEPTH, (0.0, 1.0))
    read = (read_photograph(file, size=network.size, channels=network.channels)[None] for file in files)
    pairs = [_both_maps(network, layer, each) for each in read]
    known, mirrored = (torch.cat(maps) for maps in zip(*pairs, strict=True))
    center = known.mean(0)
    given = _both_maps(network, layer, resize(images[:, : network.channels].float(), network.size))
    similarity, among = (
        torch.maximum(*[best_cosine(maps - center, known - center) for maps in both])
        for both in (given, (known, mirrored))
    )
    among.fill_diagonal_(-1)
    limit = max(among[among < DUPLICATE].amax().item(), LOWEST_LIMIT)
    best = similarity.max(1)
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [Nearest(files[i], value, limit) for i, value in found]


def with_copies_marked(rendering: fv.Rendering, nearest: Mapping[int, Nearest]) -> fv.Rendering:
    """Return a rendering in which copies are named after their photographs, and are among the `problems`.

    Args:
        rendering: What was rendered.
        nearest: The nearest photograph by index of the image.
    """
    copies = {i: str(one) for i, one in nearest.items() if one.is_copy}
    if not copies:
        return rendering
    names = tuple(f"copy of {nearest[i].file.name}" if i in copies else name for i, name in enumerate(rendering.names))
    return replace(rendering, names=names, problems={**rendering.problems, **copies})


def best_cosine(
    images: Float[Tensor, "n channel row column"], photographs: Float[Tensor, "k channel row column"]
) -> Float[Tensor, "n k"]:
    """Return the largest cosine of the overlapping parts of two maps over small shifts of one of them.

    Args:
        images: Maps of images.
        photographs: Maps of photographs.
    """
    found = []
    for dy in SHIFTS:
        for dx in SHIFTS:
            one = _part(images, dy, dx).flatten(1)
            two = _part(photographs, -dy, -dx).flatten(1)
            lengths = one.norm(dim=1)[:, None] * two.norm(dim=1)
            found.append(one @ two.T / lengths.clamp(min=LEAST_ENERGY))
    return torch.stack(found).amax(0)


def _part(maps: Tensor, dy: int, dx: int) -> Tensor:
    """Return the part of a map that overlaps with one shifted by some cells."""
    rows, columns = maps.shape[2:]
    return maps[:, :, max(dy, 0) : rows + min(dy, 0), max(dx, 0) : columns + min(dx, 0)]


def _both_maps(network: fv.Network, layer: str, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """Return the feature maps of images and of their mirror images, averaged to a small grid."""
    found = []
    for given in (images, images.flip(-1)):
        with torch.no_grad():
            maps = network.capture(given, [layer]).as_map(layer).float().cpu()
        found.append(F.adaptive_avg_pool2d(maps, (min(GRID, maps.shape[2]), min(GRID, maps.shape[3]))))
    return found
