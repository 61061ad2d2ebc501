"""The atlas as a page: sprites, what every cell is about, and the photographs that fell into it."""

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
from featviz.apps.shared.icons import ICON, sprites
from featviz.apps.shared.page import class_title, filled
from featviz.apps.shared.photographs import webp
from featviz.io import Store, read_photograph

TEMPLATE = Path(__file__).with_name("page.html")
PHOTOGRAPHS = 4
"""Photographs that are shown of a cell."""
THUMB = 96
"""Px of a photograph."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A layer's part of the page.

    Args:
        layer: its name.
        cells: by the side of the grid, its cells and their pictures' names.
        collected: the activations.
        photographs: the folder that they are of.
        count: how many activations are laid out.
    """

    layer: str
    cells: Mapping[int, Sequence[tuple[Cell, str]]]
    collected: Collected
    photographs: Path
    count: int


def write_page(store: Store, network: fv.Network, planes: Sequence[Plane], there: Collection[str], about: str) -> str:
    """Write the page and all that it shows, and return its name."""
    shown: dict[str, str] = {}
    data = [_plane(store, network, plane, there, shown) for plane in planes]
    _photographs(store, network, planes, shown)
    title = (
        f"What {' and '.join(plane.layer for plane in planes)} of {network.label} see{'s' * (len(planes) < 2)}{about}"
    )
    store.write("index.html", filled(TEMPLATE, {"layers": data, "icon": ICON}, title=title, planes=planes))
    return "index.html"


def _plane(
    store: Store, network: fv.Network, plane: Plane, there: Collection[str], shown: dict[str, str]
) -> dict[str, Any]:
    grids = []
    for side, pairs in plane.cells.items():
        drawn = [(cell, name) for cell, name in pairs if name in there]
        slug = "".join(letter if letter.isalnum() else "_" for letter in plane.layer)
        file = f"sprites/{slug}-{side}.webp"
        columns = sprites(store, [name for _, name in drawn], file)
        cells = []
        for cell, name in drawn:
            every = cell.photographs
            files = [plane.collected.files[n] for n in every[:: max(1, len(every) // PHOTOGRAPHS)][:PHOTOGRAPHS]]
            cells.append(
                {
                    "x": cell.x,
                    "y": cell.y,
                    "n": cell.count,
                    "name": name,
                    "classes": [[class_title(network, index), float(f"{share:.4g}")] for index, share in cell.classes],
                    "photos": [shown.setdefault(one, _named(plane, one)) for one in files],
                    "from": list(every),
                }
            )
        grids.append({"side": side, "sprite": file, "columns": columns, "cells": cells})
    return {"layer": plane.layer, "grids": grids}


def _named(plane: Plane, file: str) -> str:
    """Name a photograph's small copy: another folder, or another state of it, has others."""
    return sha256(os.fsencode(f"{plane.collected.folder.name}/{file}")).hexdigest()[:12]


def _photographs(store: Store, network: fv.Network, planes: Sequence[Plane], shown: Mapping[str, str]) -> None:
    """Write small copies of the photographs that cells show, where they are not there yet."""
    there = store.names("photographs")
    for file, name in shown.items():
        if f"{name}.webp" not in there:
            image = read_photograph(planes[0].photographs / file, size=THUMB, channels=network.channels)
            store.write(f"photographs/{name}.webp", webp(image))
