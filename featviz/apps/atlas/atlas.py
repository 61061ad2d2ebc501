"""The activation atlas: a page of the features that a layer detects in a folder of photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import featviz as fv
from featviz.apps.atlas.cells import Cell, cells_of
from featviz.apps.atlas.collect import Collected, collect
from featviz.apps.atlas.page import Plane, write_page
from featviz.apps.shared.activations.projection import CHUNK, check_method, lay_out, purity
from featviz.apps.shared.arguments.classes import class_index, class_title
from featviz.apps.shared.arguments.output import local_store
from featviz.apps.shared.arguments.probe import check_layers
from featviz.apps.shared.rendering.album import Album, Pages, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.icons import add_icons, check_icon_param
from featviz.checks import check_seed
from featviz.engine import entry_point
from featviz.interfaces import Param, Size
from featviz.io import Array, Store, auto_bar

GRIDS = (20, 40, 80)
"""Number of cells along a side, from coarse to fine."""
MIN_PER_CELL = 4
"""Mean number of activations per cell that a grid needs; finer ones are left out."""
MIN_ACTIVATIONS = 4
"""Number of activations that an atlas needs."""
COSINE_POWER = 2.0
"""Exponent of the cosine in the objective of an icon. Higher values show what is specific to its cell."""
RIDGE = 8.0
"""Ridge added to the second moment of the channels before it is inverted, in units of its mean diagonal entry.

Source: measured on motifs, from 0.05 to 8 and without whitening, by the share of cells in which another network
recognises the class: 0.92 for a diverse folder (0.87 with 0.05), 0.53 for a folder of four motifs (0.13 with 0.05),
where much of what belongs to a motif is common to all activations.
"""
MOMENT_SAMPLE = 50_000
"""Number of activations from which the second moment is estimated."""
DEFAULT_ICON_SIZE = 96
"""Side of an icon in px, unless `size` or the param sets one."""


@entry_point
def atlas(
    network: fv.Network,
    photographs: str | Path,
    layers: str | Sequence[str],
    output: str | Path,
    *,
    per_image: int = 4,
    only_class: str | int | None = None,
    method: str = "umap",
    grids: Sequence[int] = GRIDS,
    least: int = 2,
    param: Any = None,
    size: int | Size | None = None,
    steps: int = 256,
    seed: int = 0,
    backend: Backend | None = None,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Pages:
    """Lay out the activations of a layer in photographs, similar ones near each other, and render an icon of each cell.

    Collected activations and rendered icons stay in the folder, so an interrupted atlas continues where it stopped.

    Args:
        network: The network.
        photographs: Folder of images. Files that cannot be read are skipped.
        layers: Name of one or several layers with positions; several are shown side by side.
        output: A folder on this machine.
        per_image: Number of random positions per photograph, >= 1.
        only_class: Name or index of a class, to use only photographs that the network assigns to it; `None` for all
            photographs.
        method: Layout method: `"umap"`, `"tsne"` or `"pca"`.
        grids: Numbers of cells along a side, from coarse to fine, each >= 1. Grids that are too fine for the number of
            activations are left out.
        least: Number of activations that a cell needs, >= 1.
        param: Image parameterization of the icons: `param.CPPN()` for smooth ones, `param.Alpha()` for ones that are
            transparent where little matters (networks of 1 or 3 channels); `None` for `param.Image()`.
        size: Height and width of an icon in px, or one side; `None` for the param's size, or else 96.
        steps: Steps of each icon, >= 0.
        seed: Seed of the positions, the layout and the icons, in [0, 2**32).
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        scan_progress: Called with the number of photographs scanned and their total, for each layer from the start.
        progress: Called after each icon with the number of icons done and the number to render.

    Returns:
        The page. Its `facts` hold for each layer the number of `activations` and, where the network has classes and
        `only_class` is `None`, their `purity`: how often the nearest neighbour from another photograph belongs to the
        same predicted class, in [0, 1].

    Raises:
        AddressError: There is no such layer or class, or the layer has no positions.
        SettingError: An argument is out of its range, or there are too few activations.
        ModelError: The layer is 0 in these photographs.
        OutputError: A folder is missing, has no image that can be read, or cannot be written to.

    Source: Carter et al. 2019, https://doi.org/10.23915/distill.00015.
    """
    _check_numbers(per_image, least, grids, seed)
    check_method(method)
    check_icon_param(param)
    label = None if only_class is None else class_index(network, only_class)
    names = check_layers(network, layers)
    store = local_store(output, photographs, "an atlas")
    assert store.path is not None
    size = size or (param.size if isinstance(param, Param) else None) or DEFAULT_ICON_SIZE
    planes, albums = [], []
    facts: dict[str, dict[str, float]] = {}
    for layer in names:
        collected = collect(
            network, Path(photographs), layer, store.path / "data", per_image=per_image, seed=seed,
            progress=scan_progress,
        )  # fmt: skip
        kept = _kept_rows(collected, label)
        if label is None and not len(kept) and len(collected.vectors):  # activations that are 0 are not kept
            raise fv.ModelError(f"layer {layer!r} of {network.label} is 0 in these photographs; choose an earlier one")
        if len(kept) < MIN_ACTIVATIONS:
            needed = f"an atlas needs at least {MIN_ACTIVATIONS} activations, got {len(kept)}"
            raise fv.SettingError(f"{needed}; give more photographs or a larger per_image")
        positions = lay_out(_SelectedRows(collected.vectors, kept), method, seed)
        cells = _cells(collected, positions, kept, grids, least)
        album, icons = _plan_icons(
            network, store, layer, collected, cells, param=param, size=size, steps=steps, seed=seed
        )
        albums.append(album)
        planes.append(Plane(layer, icons, collected, Path(photographs), len(kept)))
        facts[layer] = {"activations": len(kept)}
        if collected.classes > 1 and label is None:
            labels, numbers = (np.asarray(part[kept])[:, 0] for part in (collected.labels, collected.numbers))
            share = purity(positions, labels, numbers)
            facts[layer] |= {} if share is None else {"purity": share}

    def write_pages(rendered: RenderedImages) -> list[str]:
        only = "" if label is None else f", class {class_title(network, label)}"
        return [write_page(store, network, planes, rendered.names, only)]

    return replace(render_pages(network, albums, store, write_pages, backend, progress), facts=facts)


def _check_numbers(per_image: int, least: int, grids: Sequence[int], seed: int) -> None:
    """Check the arguments that are numbers.

    Raises:
        SettingError: One is out of its range.
    """
    for name, value in (("per_image", per_image), ("least", least)):
        if value < 1:
            raise fv.SettingError(f"{name} must be >= 1, got {value}")
    if not grids or min(grids) < 1:
        raise fv.SettingError(f"grids must be one or more numbers >= 1, got {tuple(grids)}")
    check_seed(seed)


class _SelectedRows:
    """Rows of an array on the disk, read when they are indexed."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self._array, self._rows = array, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self._array[self._rows[index]]


def _kept_rows(collected: Collected, label: int | None) -> np.ndarray:
    """Return the rows to lay out: those that are not zero, and whose photograph has a predicted class if one is given.

    Args:
        collected: The activations.
        label: Index of the class; `None` for all classes.
    """
    keep = np.zeros(collected.rows, bool)
    for first in range(0, collected.rows, CHUNK):
        keep[first : first + CHUNK] = (collected.vectors[first : first + CHUNK] != 0).any(1)
    if label is not None:
        keep &= np.asarray(collected.labels[:, 0]) == label if collected.classes else False
    return np.flatnonzero(keep)


def _cells(
    collected: Collected, positions: np.ndarray, kept: np.ndarray, grids: Sequence[int], least: int
) -> dict[int, list[Cell]]:
    """Return the cells of each grid that is coarse enough for the number of activations, by its side."""
    sides = [side for side in sorted(set(grids)) if side * side * MIN_PER_CELL <= len(kept)]
    sides = sides or [max(2, int((len(kept) / MIN_PER_CELL) ** 0.5))]
    return {
        side: cells_of(collected, positions, kept, side, least) or cells_of(collected, positions, kept, side, 1)
        for side in sides
    }


def _plan_icons(
    network: fv.Network,
    store: Store,
    layer: str,
    collected: Collected,
    cells: dict[int, list[Cell]],
    *,
    param: Any,
    size: int | Size,
    steps: int,
    seed: int,
) -> tuple[Album, dict[int, list[tuple[Cell, str]]]]:
    """Plan one icon per cell: the direction of its mean activation, whitened.

    Returns:
        The album, and the cells of each grid with the names of their icons.
    """
    inverse = Array.of(_inverse_moment(collected.vectors, seed))
    album, icons = Album(network, store), {}
    for side, some in cells.items():
        objectives = [fv.objectives.Direction.whitened(layer, cell.mean, inverse, COSINE_POWER) for cell in some]
        titles = [f"{layer}, {side}: row {cell.y}, column {cell.x}" for cell in some]
        names = add_icons(album, objectives, titles, param=param, size=size, steps=steps, seed=seed)
        icons[side] = list(zip(some, names, strict=True))
    return album, icons


def _inverse_moment(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Return the inverse of the channels' second moment plus ridge, scaled so that its largest entry is 1.

    The mean is not subtracted, as in the source of `atlas`.
    """
    rows = np.random.default_rng(seed).permutation(len(vectors))[:MOMENT_SAMPLE]
    sample = np.asarray(vectors[np.sort(rows)], np.float64)
    moment = sample.T @ sample / len(sample)
    moment += RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    inverse = np.linalg.inv(moment)
    return (inverse / np.abs(inverse).max()).astype(np.float32)
