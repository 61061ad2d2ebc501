"""Write the page of an atlas: sprite sheets, the classes of each cell, and photographs from it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.atlas.cells import Cell
from featviz.apps.atlas.collect import Collected
from featviz.apps.shared.arguments.classes import class_title, network_title
from featviz.apps.shared.pages.input_pictures import encode_webp
from featviz.apps.shared.pages.page import MAX_SLUG, render_template
from featviz.apps.shared.rendering.icons import ICON_SIZE, write_sprites
from featviz.io import Store, read_photograph, unique_slug

SHOWN_PHOTOGRAPHS = 4
"""Number of photographs that are shown of a cell."""
PHOTOGRAPH_SIZE = 96
"""Side of a photograph in px."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The part of the page about one layer.

    Args:
        layer: Name of the layer.
        cells: For each grid, by its side, the cells and the names of their icons.
        collected: The activations.
        photographs: Folder of the photographs.
        count: Number of activations that are laid out.
    """

    layer: str
    cells: Mapping[int, Sequence[tuple[Cell, str]]]
    collected: Collected
    photographs: Path
    count: int


def write_page(
    store: Store, network: fv.Network, planes: Sequence[Plane], existing: Collection[str], suffix: str = ""
) -> str:
    """Write the page and all files that it shows.

    Args:
        store: Where they are written.
        network: The network.
        planes: One per layer.
        existing: Names of the icons that are in the store.
        suffix: End of the title.

    Returns:
        The file of the page.

    Raises:
        OutputError: A photograph cannot be read any more, or the store cannot be written to.
    """
    shown: dict[str, str] = {}
    data = [_plane_data(store, network, plane, existing, shown) for plane in planes]
    _write_photographs(store, network, planes[0].photographs, shown)
    title = f"Activation atlas of {' and '.join(plane.layer for plane in planes)}, {network_title(network)}{suffix}"
    page = render_template("atlas/page.html", {"layers": data, "icon": ICON_SIZE}, title=title, planes=planes)
    store.write("index.html", page)
    return "index.html"


def _plane_data(
    store: Store, network: fv.Network, plane: Plane, existing: Collection[str], shown: dict[str, str]
) -> dict[str, Any]:
    """Write the sprite sheets of a layer, and return the script's data of it.

    Args:
        store: Where the sheets are written.
        network: The network.
        plane: The layer.
        existing: Names of the icons that are in the store.
        shown: Gets the photographs that are shown, and the names of their small copies.
    """
    grids = []
    for side, pairs in plane.cells.items():
        icons = [(cell, name) for cell, name in pairs if name in existing]
        file = f"sprites/{unique_slug(plane.layer, MAX_SLUG)}-{side}.webp"
        columns = write_sprites(store, [name for _, name in icons], file)
        cells = [_cell_data(network, plane, cell, name, shown) for cell, name in icons]
        grids.append({"side": side, "sprite": file, "columns": columns, "cells": cells})
    return {"layer": plane.layer, "grids": grids}


def _cell_data(network: fv.Network, plane: Plane, cell: Cell, name: str, shown: dict[str, str]) -> dict[str, Any]:
    spread = cell.photographs[:: max(1, len(cell.photographs) // SHOWN_PHOTOGRAPHS)][:SHOWN_PHOTOGRAPHS]
    files = [plane.collected.files[number] for number in spread]
    return {
        "x": cell.x,
        "y": cell.y,
        "n": cell.count,
        "name": name,
        "classes": [[class_title(network, index), float(f"{share:.4g}")] for index, share in cell.classes],
        "photos": [shown.setdefault(file, _copy_name(plane, file)) for file in files],
        "from": list(cell.photographs),
    }


def _copy_name(plane: Plane, file: str) -> str:
    """Name the small copy of a photograph. The name changes with the folder and its contents."""
    return sha256(os.fsencode(f"{plane.collected.folder.name}/{file}")).hexdigest()[:12]


def _write_photographs(store: Store, network: fv.Network, folder: Path, shown: Mapping[str, str]) -> None:
    """Write small copies of photographs, unless they are in the store."""
    existing = store.intact_images(f"photographs/{name}.webp" for name in shown.values())
    for file, name in shown.items():
        if f"photographs/{name}.webp" not in existing:
            image = read_photograph(folder / file, size=PHOTOGRAPH_SIZE, channels=network.channels)
            store.write(f"photographs/{name}.webp", encode_webp(image))
