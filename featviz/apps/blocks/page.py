"""Write the page of building blocks: sprite sheets, and the numbers that its script shows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.blocks.decompose import Parts
from featviz.apps.shared.arguments.classes import class_title
from featviz.apps.shared.pages.input_pictures import encode_webp, planes_of
from featviz.apps.shared.pages.page import MAX_SLUG, render_template
from featviz.apps.shared.rendering.album import RenderedImages
from featviz.apps.shared.rendering.icons import write_sprites
from featviz.io import Store, draw_lines, encode, unique_slug
from featviz.param.color import collapse_channels

TOP_CHANNELS = 4
"""Number of channels that are listed for a cell or a class."""
INPUT_FILE = "photograph.webp"
"""File of the picture of the decomposed input."""
SIGNAL_WIDTH, SIGNAL_RATIO = 960, 0.16
"""Width of the picture of a signal in px, and height of the row of each channel as a share of it."""
MAX_WEBP_SIDE = 16383
"""Largest side of a .webp file in px."""
MAX_OPACITY = 0.85
"""Opacity over the image of the group colours in the cell where the groups are most active, in [0, 1]."""

LayerIcons = Mapping[str, tuple[str, ...]]
"""Names of the icons of a layer, by kind: cells, groups and channels. Kinds without icons are left out."""


def write_page(
    network: fv.Network,
    title: str,
    image: Float[Tensor, "c *size"],
    probabilities: Mapping[int, float],
    parts: Sequence[Parts],
    icons: Sequence[LayerIcons],
    rendered: RenderedImages,
) -> str:
    """Write the page and all files that it shows.

    Args:
        network: The network.
        title: Title of the page.
        image: The decomposed input, in [0, 1].
        probabilities: Probability of each shown class, by its index.
        parts: Its decomposition, by layer.
        icons: Names of the icons of each layer.
        rendered: The icons that are in the store.

    Returns:
        The file of the page.

    Raises:
        OutputError: The store cannot be written to.
    """
    store = rendered.store
    axes = network.input.axes
    data = {
        **_write_input(store, image, axes),
        "axes": axes,
        "classes": [{"name": class_title(network, k), "share": round(share, 4)} for k, share in probabilities.items()],
        "layers": [_layer_data(store, part, names, rendered.names) for part, names in zip(parts, icons, strict=True)],
    }
    store.write("index.html", render_template("blocks/page.html", data, title=title))
    return "index.html"


def _write_input(store: Store, image: Float[Tensor, "c *size"], axes: str) -> dict[str, Any]:
    """Write the picture of the input, and return its size in px and the number of planes below each other in it."""
    if axes == "yx":
        store.write(INPUT_FILE, encode_webp(image))
        return {"size": image.shape[-2:], "planes": 1}
    if axes == "x":
        planes = [draw_lines(image.numpy(), width=SIGNAL_WIDTH, ratio=SIGNAL_RATIO)]
    else:
        planes = planes_of(image, axes)
        planes = planes[:: math.ceil(len(planes) * planes[0].shape[0] / MAX_WEBP_SIDE)]
    store.write(INPUT_FILE, encode(np.concatenate(planes), ".webp"))
    return {"size": planes[0].shape[:2], "planes": len(planes)}


def icon_channels(part: Parts) -> list[int]:
    """Return the channels with the highest activation in some cell or the largest contribution to some class."""
    count = min(TOP_CHANNELS, len(part.maps))
    of_cells = part.maps.flatten(1).topk(count, dim=0).indices.flatten().tolist()
    of_classes = part.channels.topk(count, dim=1).indices.flatten().tolist()
    return sorted({*of_cells, *of_classes})


def _layer_data(store: Store, part: Parts, icons: LayerIcons, existing: Collection[str]) -> dict[str, Any]:
    """Write the sprite sheets of a layer, and return the script's data of it."""
    flat = part.maps.flatten(1)
    count = min(TOP_CHANNELS, len(flat))
    top, useful = flat.topk(count, dim=0), part.channels.topk(count, dim=1)
    return {
        "layer": part.layer,
        "grid": _grid_of(part.maps[0]),
        "sheets": {kind: _sheet(store, part.layer, kind, names, existing) for kind, names in icons.items()},
        "channels": icon_channels(part),
        "activation": _round(flat.norm(dim=0)),
        "cell_channels": _pairs(top.indices.T, top.values.T),
        "class_channels": _pairs(useful.indices, useful.values),
        "support": [_round(one.flatten()) for one in part.support],
        "shares": [_round(one.flatten()) for one in part.shares],
        "effects": [_round(one) for one in part.effects.T],
        **_group_colors(part),
        "sources": None
        if part.sources is None
        else {"grid": _grid_of(part.sources[0]), "maps": [_round(one.flatten()) for one in part.sources]},
    }


def _grid_of(cells: Tensor) -> tuple[int, ...]:
    """Return the number of planes, rows and columns of cells."""
    return (*[1] * (3 - cells.ndim), *cells.shape)


def _sheet(store: Store, layer: str, kind: str, names: Sequence[str], existing: Collection[str]) -> dict[str, Any]:
    """Write a sprite sheet, and return its file and the position of each icon; -1 for a missing one."""
    unique = [name for name in dict.fromkeys(names) if name in existing]
    file, index = f"sprites/{unique_slug(layer, MAX_SLUG)}-{kind}.webp", {name: i for i, name in enumerate(unique)}
    columns = write_sprites(store, unique, file)
    return {"file": file, "columns": columns, "icons": [index.get(name, -1) for name in names]}


def _group_colors(part: Parts) -> dict[str, Any]:
    """Return the colour of each group, and that of each cell, which mixes its groups, with opacity; all in 0..255."""
    if not len(part.groups):
        return {"group_colors": [], "cell_colors": [[0, 0, 0, 0]] * part.maps[0].numel()}
    activation = (part.shares * part.groups.norm(dim=1).view(-1, *[1] * (part.shares.ndim - 1))).flatten(1)
    total, count = activation.norm(dim=0), len(activation)
    pure_and_mixed = torch.cat([torch.eye(count), activation / total.clamp(min=1e-12)], 1)
    colors = collapse_channels(pure_and_mixed[..., None])[..., 0]
    cells = torch.cat([colors[:, count:], MAX_OPACITY * total[None] / total.amax().clamp(min=1e-12)])
    groups, mixed = ((255 * some).round().int().T.tolist() for some in (colors[:, :count], cells))
    return {"group_colors": groups, "cell_colors": mixed}


def _pairs(indices: Int[Tensor, "n k"], values: Float[Tensor, "n k"]) -> list[list[tuple[int, float]]]:
    """Return indices and values as pairs, by row."""
    rows = zip(indices.tolist(), values, strict=True)
    return [list(zip(of_row, _round(numbers), strict=True)) for of_row, numbers in rows]


def _round(numbers: Tensor) -> list[float]:
    """Return numbers with four significant digits."""
    return [float(f"{number:.4g}") for number in numbers.tolist()]
