"""Draw embeddings as a map: one web page that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.embeddings.neighbours import MAX_NAME, neighbour_lists
from featviz.apps.shared.activations.projection import check_method, lay_out
from featviz.apps.shared.pages.input_pictures import encode_webp
from featviz.apps.shared.pages.page import render_template
from featviz.apps.shared.pages.text import printable
from featviz.checks import as_whole, check_seed
from featviz.errors import pluralize
from featviz.io import check_output, read_photograph, write

if TYPE_CHECKING:
    from featviz.apps.embeddings.embeddings import Embeddings

MAX_POINTS = 20_000
"""Most names of a map."""
NEIGHBOURS = 12
"""Number of nearest neighbours that the page lists."""
STEPS_PER_SIDE = 10_000
"""Coordinates are whole numbers from 0 to this, which are shorter as text than fractions."""
THUMBNAIL_SIDES = (128, 64, 32, 16)
"""Sides in px that small copies of photographs may have, the largest first."""
MAX_THUMBNAIL_PIXELS = 1 << 23
"""Most pixels of all small copies together: about 2 MB of WebP."""
SHEET_SIDE = 1024
"""Side in px of an image that holds many small copies."""


def write_map(
    embeddings: Embeddings,
    path: Path,
    *,
    method: str | None,
    limit: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """Write the map of embeddings; see `Embeddings.map`, which describes the arguments and errors."""
    limit = as_whole("limit", limit)
    if not 1 <= limit <= MAX_POINTS:
        raise fv.SettingError(f"limit must be in [1, {MAX_POINTS}], got {limit}")
    check_seed(seed)
    method = method if method is not None else "umap" if find_spec("umap") else "pca"
    check_method(method)
    check_output(path, ".html")
    rows = _shown_rows(len(embeddings), limit, spread=bool(embeddings.files))
    vectors = embeddings.vectors[rows]
    data = _points(vectors, method, seed)
    data["names"] = [embeddings.names[row] for row in rows]
    if embeddings.files and embeddings.network is not None:
        data |= _thumbnails([embeddings.files[row] for row in rows], embeddings.network.channels, progress)
    noun = "photograph" if embeddings.files else "name"
    source = printable(embeddings.source, most=MAX_NAME)
    total = f" of {len(embeddings)}" if len(rows) < len(embeddings) else ""
    about = f"{len(rows)}{total} {pluralize(len(embeddings), noun).partition(' ')[2]}, laid out by {LABELS[method]}"
    page = render_template("embeddings/page.html", data, title=f"Map of {source}", about=about, noun=noun)
    write(path, page.encode(errors="replace"))
    return path


LABELS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}
"""Names of the layout methods."""


def _shown_rows(count: int, limit: int, *, spread: bool) -> list[int]:
    """Return the rows to show: all, the first ones, or some that are spread evenly."""
    if count <= limit:
        return list(range(count))
    return [i * count // limit for i in range(limit)] if spread else list(range(limit))


def _points(vectors: Float[Tensor, "n d"], method: str, seed: int) -> dict[str, Any]:
    """Return the coordinates of each point, its neighbours and their similarity in thousandths."""
    plane = lay_out(vectors.numpy(), method, seed) if len(vectors) > 1 else np.full((1, 2), 0.5)
    x, y = (np.nan_to_num(plane, nan=0.5) * STEPS_PER_SIDE).round().astype(int).T.tolist()
    rows, similarity = neighbour_lists(vectors, NEIGHBOURS)
    return {"x": x, "y": y, "near": rows.tolist(), "similar": (1000 * similarity).round().int().tolist()}


def _thumbnails(
    files: Sequence[Path], channels: int, progress: Callable[[int, int], None] | None
) -> dict[str, list[str] | int]:
    """Return sheets of small copies of photographs as data URLs, and the side of a copy in px.

    The copies are the network's inputs: the centre of each photograph. A file that can no longer be read is
    left grey.
    """
    side = next((side for side in THUMBNAIL_SIDES if len(files) * side * side <= MAX_THUMBNAIL_PIXELS), 16)
    columns = SHEET_SIDE // side
    sheets = []
    for first in range(0, len(files), columns * columns):
        some = files[first : first + columns * columns]
        sheet = torch.full((3, side * -(-len(some) // columns), side * min(columns, len(some))), 0.5)
        for i, file in enumerate(some):
            y, x = side * (i // columns), side * (i % columns)
            sheet[:, y : y + side, x : x + side] = _small_copy(file, side, channels)
            if progress:
                progress(first + i + 1, len(files))
        sheets.append(f"data:image/webp;base64,{b64encode(encode_webp(sheet)).decode()}")
    return {"sheets": sheets, "side": side, "columns": columns}


def _small_copy(file: Path, side: int, channels: int) -> Float[Tensor, "3 side side"]:
    try:
        image = read_photograph(file, size=side, channels=channels)
    except fv.FeatvizError:
        return torch.full((3, side, side), 0.5)
    return (image if len(image) == 3 else image[:1]).expand(3, -1, -1)
