"""The activation atlas: everything that a layer sees in a folder of photographs, on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import featviz as fv
from featviz.interfaces import Param
from featviz.apps.atlas.cells import cells_of
from featviz.apps.atlas.collect import Collected, collect
from featviz.apps.atlas.layout import CHUNK, check_method, lay_out, purity
from featviz.apps.atlas.page import Plane, write_page
from featviz.apps.shared.album import Album, Drawn, Pages, produce
from featviz.apps.shared.batches import Backend
from featviz.apps.shared.icons import check_param, icons
from featviz.apps.shared.page import class_number
from featviz.io import Array, Store, check_outside, images_in

GRIDS = (20, 40, 80)
"""Cells along a side, from afar to close by."""
LEAST = 4
"""Activations that a cell needs on average before there is a finer grid."""
POWER = 2.0
"""How much the angle matters to an icon: it should show what is special to its cell."""
RIDGE = 8.0
"""What is added to the channels' moments before they are undone, as a share of their mean.

Source: of .05 to 8 and none at all, on motifs, what shows another network the most: .92 of cells of a rich folder
(.87 with .05), .53 of a folder of four motifs (.13 with .05), where much that belongs to a motif is common to all.
"""
SAMPLE = 50_000
"""Rows from which the covariance is taken."""
SIZE = 96
"""Px of an icon where nothing else is asked for."""


def atlas(
    network: fv.Network,
    photographs: str | Path,
    layers: str | Sequence[str],
    output: str | Path,
    *,
    each: int = 4,
    only: str | int | None = None,
    method: str = "umap",
    grids: Sequence[int] = GRIDS,
    least: int = 2,
    param: Any = None,
    size: int | tuple[int, int] | None = None,
    steps: int = 256,
    seed: int = 0,
    backend: Backend | None = None,
    looking: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pages:
    """Lay out what a layer sees in photographs, like beside like, and draw a picture of every part, as a page.

    What was collected, and what was drawn, is there when it is asked for again: an atlas that was stopped goes on.

    Args:
        network: whose layers they are.
        photographs: a folder; those that cannot be read are left out.
        layers: one, or several beside one another.
        output: a folder of this machine.
        each: random places of each photograph.
        only: a class; the atlas is of the photographs that the network takes for it.
        method: `"umap"`, `"tsne"` or `"pca"`.
        grids: cells along a side, from afar to close by; those that are too fine for the folder are left out.
        least: activations that a cell needs.
        param: how icons are held, as for `fv.render`: `param.CPPN()` for smooth ones, `param.Alpha()` for ones that
            fade where little matters, in networks of 1 or 3 channels; `None` means `param.Image()`.
        size: height and width in px of an icon, or one side; `None` means the param's own, or else 96.
        steps: of each icon.
        seed: of places, layout and icons.
        engine: where to draw; `None` means here.
        looking: called now and then with the photographs seen and those in all, for each layer anew.
        progress: called with the pictures done and those in all.

    Returns:
        What was made; its facts are, for each layer, how many activations there are, and their purity: how often the
        nearest neighbour in the plane from another photograph is of one that the network takes for the same class.

    Raises:
        AddressError: there is no such layer or class, or the layer has no places.
        SettingError: an argument is out of its range, or too little is left to lay out.
        OutputError: a folder is missing, holds no image that can be read, or cannot be written to.

    Source: Carter et al. 2019, https://doi.org/10.23915/distill.00015.
    """
    if each < 1 or least < 1 or not grids or min(grids) < 1:
        raise fv.SettingError(f"{each} places, {least} activations and grids of {tuple(grids)}; give 1 or more of each")
    if not 0 <= seed < 2**32:
        raise fv.SettingError(f"seed {seed} is out of range; give 0 or more, below 2**32")
    check_method(method)
    check_param(param)
    label = None if only is None else class_number(network, only)
    named = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not named:
        raise fv.SettingError("no layers are given; give one or more")
    blank = torch.full((1, network.channels, *network.size), 0.5)
    for layer in named:
        network.capture(blank, [layer]).places(layer)
    next(iter(images_in(photographs)))
    check_outside(output, photographs)
    store = Store(output)
    if store.path is None:
        raise fv.SettingError(f"an atlas cannot be made in {store.url}; give a folder of this machine")
    planes, albums = [], []
    facts: dict[str, dict[str, float]] = {}
    for layer in named:
        where = store.path / "data"
        found = collect(network, Path(photographs), layer, where, each=each, seed=seed, progress=looking)
        kept = _kept(found, label)
        if len(kept) < 4:
            raise fv.SettingError(f"{len(kept)} activations cannot be laid out; give more photographs, or more of each")
        plane = lay_out(_Rows(found.vectors, kept), method, seed)
        sides = [side for side in sorted(set(grids)) if side * side * LEAST <= len(kept)]
        sides = sides or [max(2, int((len(kept) / LEAST) ** 0.5))]
        inverse = Array.of(_inverse(found.vectors, seed))
        album, drawn = Album(), {}
        for side in sides:
            cells = cells_of(found, plane, kept, side, least) or cells_of(found, plane, kept, side, 1)
            goals = [fv.objectives.Direction.whitened(layer, cell.mean, inverse, POWER) for cell in cells]
            batch = icons(network, goals, param, size or (param.size if isinstance(param, Param) else None) or SIZE, steps, seed)
            titles = [f"{layer}, {side}: row {cell.y}, column {cell.x}" for cell in cells]
            album.want(batch, titles, [""] * len(cells))
            drawn[side] = list(zip(cells, batch.names, strict=True))
        albums.append(album)
        planes.append(Plane(layer, drawn, found, Path(photographs), len(kept)))
        facts[layer] = {"activations": len(kept)}
        if found.classes and label is None:
            labels, numbers = (np.asarray(part[kept])[:, 0] for part in (found.labels, found.numbers))
            facts[layer]["purity"] = purity(plane, labels, numbers)

    def lay(drawn: Drawn) -> list[str]:
        about = "" if label is None else f" for {network.classes[label] if network.classes else label}"
        return [write_page(store, network, planes, drawn.names, about)]

    return replace(produce(network, albums, store, lay, backend, progress), facts=facts)


class _Rows:
    """Some rows of an array on the disk, read when they are asked for."""

    def __init__(self, whole: np.ndarray, rows: np.ndarray) -> None:
        self._whole, self._rows = whole, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        return self._whole[self._rows[which]]


def _kept(found: Collected, label: int | None) -> np.ndarray:
    """Return the rows to lay out: those that are not empty, of the class if there is one."""
    alive = np.zeros(found.rows, bool)
    for first in range(0, found.rows, CHUNK):
        alive[first : first + CHUNK] = (found.vectors[first : first + CHUNK] != 0).any(1)
    if label is not None:
        alive &= np.asarray(found.labels[:, 0]) == label if found.classes else False
    return np.flatnonzero(alive)


def _inverse(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the inverse of the channels' moments and the ridge, its largest number 1."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:SAMPLE]
    some = np.asarray(vectors[np.sort(rows)], np.float64)
    moment = some.T @ some / len(some)
    moment += RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    inverse = np.linalg.inv(moment)
    return (inverse / np.abs(inverse).max()).astype(np.float32)
