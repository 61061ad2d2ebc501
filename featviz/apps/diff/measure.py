"""Run networks on a folder of photographs, and accumulate the covariances of their units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.diff.layers import Layers
from featviz.apps.diff.moments import Moments
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import SkippedFiles, folder_fingerprint, image_batches
from featviz.errors import OutputError
from featviz.interfaces import Size
from featviz.io import resize
from featviz.network import OUTPUT, Activations

BATCH = 16
"""Number of photographs per batch."""
GRID = 16
"""Longer side of the grid to which all maps are resized, in positions, unless all maps are smaller."""
MIN_PHOTOGRAPHS = 4
"""Number of photographs that a comparison needs."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of a pass over a folder.

    Args:
        units: Covariances of the units of each network but the last with those of the last one. A row is a position.
        logits: Covariances of the class logits of the first and the last network. A row is an image.
        photographs: Number of photographs.
    """

    units: list[Moments]
    logits: Moments | None
    photographs: int


def measure(
    networks: Sequence[fv.Network],
    layers: Sequence[Layers],
    photographs: Path,
    progress: Callable[[int, int], None] | None,
    *,
    logits: bool = False,
) -> Measured:
    """Accumulate the covariances of the units of each network with those of the last one, in one pass over a folder.

    Args:
        networks: Two or more networks.
        layers: Layers of each.
        photographs: Folder of images. Files that cannot be read are skipped.
        progress: Called after each batch with the number of files read and their total.
        logits: Also accumulate the covariances of the class logits of the first and the last network.

    Returns:
        The covariances, and the number of photographs.

    Raises:
        OutputError: The folder is missing, or has fewer than `MIN_PHOTOGRAPHS` images that can be read.
        ModelError: A layer outputs NaN or infinite numbers.
    """
    count, _ = folder_fingerprint(photographs)
    if count < MIN_PHOTOGRAPHS:
        raise _too_few(photographs, count)
    moments = [Moments(each.sizes, layers[-1].sizes) for each in layers[:-1]]
    heads = [networks[k].layer(OUTPUT).channels for k in (0, -1)] if logits else []
    of_logits = Moments(heads[:1], heads[1:]) if logits else None
    grid, skipped, used = _grid(networks, layers), SkippedFiles(photographs), 0
    size = max((network.size for network in networks), key=lambda sides: sides[0])
    wanted = [[*each.names, *([OUTPUT] if logits else [])] for each in layers]
    with torch.no_grad(), ExitStack() as opened:
        forwards = [opened.enter_context(net.session(names)) for net, names in zip(networks, wanted, strict=True)]
        for batch in image_batches(photographs, size=size, channels=networks[0].channels, batch=BATCH, skipped=skipped):
            used += len(batch.files)
            images = batch.images.to(networks[0].device)
            acts = [forward(_fit(images, net)) for forward, net in zip(forwards, networks, strict=True)]
            tables = [_rows(*each, grid) for each in zip(acts, layers, networks, strict=True)]
            for each, table in zip(moments, tables[:-1], strict=True):
                each.add(table, tables[-1])
            if of_logits is not None:
                of_logits.add(*(check_finite(acts[k].logits().float(), networks[k], OUTPUT) for k in (0, -1)))
            if progress:
                progress(batch.read, count)
    if not used:
        raise skipped.error()
    skipped.warn()
    if used < MIN_PHOTOGRAPHS:
        raise _too_few(photographs, used)
    return Measured(moments, of_logits, used)


def _too_few(folder: Path, count: int) -> OutputError:
    return OutputError(f"diff needs at least {MIN_PHOTOGRAPHS} images, got {count} in {folder}; give more, 100 or so")


def _fit(images: Float[Tensor, "n c h w"], network: fv.Network) -> Float[Tensor, "n c h2 w2"]:
    """Resize images to the input size of a network."""
    return images if images.shape[2:] == network.size else resize(images, network.size)


def _grid(networks: Sequence[fv.Network], layers: Sequence[Layers]) -> Size:
    """Return the grid to which all maps are resized: the largest map, with a longer side of at most `GRID`."""
    sides: list[Size] = [(1, 1)]
    for network, each in zip(networks, layers, strict=True):
        rows = [network.layer(name) for name in each.names]
        sides += [_sides(network, row) for row in rows if row.has_positions]
    height, width = max(sides, key=lambda side: side[0] * side[1])
    factor = min(1.0, GRID / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _sides(network: fv.Network, row: fv.network.LayerRow) -> Size:
    """Return the number of rows and columns of a map or a patch grid."""
    if row.layout.kind == "map":
        height, width = row.map_size
        return height, width
    return row.layout.grid(network.size) or (1, 1)


def _rows(acts: Activations, layers: Layers, network: fv.Network, grid: Size) -> Float[Tensor, "rows units"]:
    """Return the activations of all units, one row per image and position of the grid.

    Vectors have the same value at each position.

    Raises:
        AddressError: A layer has tokens that are not on a grid.
        ModelError: An activation is NaN or infinite.
    """
    columns = []
    for name in layers.names:
        is_vector = acts.layouts[name].kind == "vector"
        maps = acts.channels_first(name)[:, :, None, None] if is_vector else acts.as_map(name)
        maps = maps.float().expand(-1, -1, *grid) if is_vector else resize(maps.float(), grid)
        columns.append(check_finite(maps, network, name).flatten(2).transpose(1, 2).flatten(0, 1))
    return torch.cat(columns, 1)
