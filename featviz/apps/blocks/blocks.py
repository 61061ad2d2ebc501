"""One photograph, what each part of it is to each layer, and what that argues for: on one page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch

import featviz as fv
from featviz.apps.blocks.decompose import Parts, take_apart
from featviz.apps.explain.explain import as_images
from featviz.apps.shared.album import Album, Drawn, Pages, produce
from featviz.apps.shared.batches import Backend, picture_file, thumb_file
from featviz.apps.shared.icons import check_param, icons, sprites
from featviz.apps.shared.page import class_number, class_title, filled
from featviz.apps.shared.photographs import webp
from featviz.apps.shared.predictions import predict
from featviz.io import Store
from featviz.param.color import collapse_channels

TEMPLATE = Path(__file__).with_name("page.html")
POWER = 2.0
"""How much the angle matters to the picture of a cell."""
TOLD = 4
"""Channels that are told of a cell."""
OPAQUE = 0.85
"""How much of the photograph the hues of the groups hide where they are loudest."""


def blocks(
    network: fv.Network,
    photograph: str | Path,
    layers: str | Sequence[str],
    output: str | Path,
    *,
    classes: Sequence[str | int] = (),
    cells: int = 10,
    groups: int = 6,
    pictures: str | Path | None = None,
    param: Any = None,
    size: int | tuple[int, int] | None = None,
    steps: int = 256,
    seed: int = 0,
    backend: Backend | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pages:
    """Show what a network sees where in a photograph, and which classes that argues for.

    Every cell of a layer's map is drawn as the picture of what the layer holds there; all begin from the same noise and
    are looked at in the same way, so that like cells look alike.

    Args:
        network: what looks at the photograph.
        photograph: a file.
        layers: one or several feature maps, or tokens on a grid.
        output: a folder, or a URL that fsspec knows.
        classes: whose support is shown, besides the five likeliest.
        cells: along the longer side; finer maps are averaged.
        groups: into how many the activations of a layer are split.
        pictures: a sweep's folder; channels that it has at the same size, steps, seed and param are not drawn again.
        param: how pictures are held, as for `fv.render`: `param.CPPN()` for smooth ones, `param.Alpha()` for ones that
            fade where little matters, in networks of 1 or 3 channels; `None` means `param.Image()`.
        size: px of a picture; `None` means the param's own, or else the network's.
        steps: of each picture.
        seed: of each picture.
        engine: where to draw; `None` means here.
        progress: called with the pictures done and those in all.

    Raises:
        AddressError: there is no such layer or class, or a layer has no places.
        SettingError: an argument is out of its range, or scikit-learn is not installed.
        OutputError: the photograph cannot be read, or the folder cannot be written to.

    Source: Olah et al. 2018, https://doi.org/10.23915/distill.00010.
    """
    if cells < 1 or groups < 1:
        raise fv.SettingError(f"{cells} cells and {groups} groups show nothing; give 1 or more of each")
    check_param(param)
    image = as_images(network, photograph)
    chances = predict(network, image)[0]
    asked = [class_number(network, one) for one in classes]
    shown = list(dict.fromkeys([*asked, *chances.topk(min(5, len(chances))).indices.tolist()]))
    named = [layers] if isinstance(layers, str) else layers
    if not named:
        raise fv.SettingError("no layers are given; give one or more")
    for layer in named:
        network.capture(image, [layer]).places(layer)
    order = sorted(dict.fromkeys(named), key=list(network.table).index)
    try:
        parts = take_apart(network, image, order, shown, most=cells, groups=groups)
    except ImportError as error:
        raise fv.SettingError("scikit-learn is not installed; run: pip install 'featviz[atlas]'") from error
    if pictures is not None and not Path(pictures).is_dir():
        raise fv.OutputError(f"no folder {pictures}")
    store = Store(output)
    albums, wanted = [], []
    for part in parts:
        album, names = Album(), {}
        for what, goals, titles in _goals(part):
            batch = icons(network, goals, param, size, steps, seed)
            album.want(batch, titles, [""] * len(titles))
            names[what] = batch.names
        albums.append(album)
        wanted.append(names)
    if pictures is not None:
        found = _borrow(
            Store(pictures), store, [name for album in albums for batch in album.batches for name in batch.names]
        )
        if not found:
            missing = f"no picture in {pictures} is of these channels in {steps} steps from seed {seed}"
            told = f"{missing} at this size and in this param; all are drawn"
            warnings.warn(told, fv.FeatvizWarning, stacklevel=2)

    def lay(drawn: Drawn) -> list[str]:
        store.write("photograph.webp", webp(image[0]))
        about = [{"name": class_title(network, index), "share": round(chances[index].item(), 4)} for index in shown]
        data = [_layer(store, part, names, drawn.names) for part, names in zip(parts, wanted, strict=True)]
        told = {"classes": about, "layers": data, "size": image.shape[-2:]}
        title = f"{Path(photograph).name}, as {network.label} sees it"
        store.write("index.html", filled(TEMPLATE, told, title=title))
        return ["index.html"]

    return produce(network, albums, store, lay, backend, progress)


def _goals(part: Parts) -> list[tuple[str, list[Any], list[str]]]:
    """Return what is to be drawn of a layer: its cells, its groups, and the channels that are told of them."""
    vectors = part.maps.flatten(1).T
    columns = part.maps.shape[2]
    cells = [fv.objectives.Direction(part.layer, _loud(vector), POWER) for vector in vectors]
    groups = [fv.objectives.Direction(part.layer, _loud(vector), POWER) for vector in part.groups]
    channels = told_channels(part)
    found: list[tuple[str, list[Any], list[str]]] = [
        ("cells", cells, [f"{part.layer}: row {i // columns}, column {i % columns}" for i in range(len(cells))]),
        ("groups", groups, [f"{part.layer}: group {i + 1}" for i in range(len(groups))]),
        ("channels", [fv.objectives.Channel(part.layer, k) for k in channels], [f"{part.layer}:{k}" for k in channels]),
    ]
    return [one for one in found if one[1]]


def told_channels(part: Parts) -> list[int]:
    """Return the channels that are loudest in some cell, or do most for some class."""
    loud = part.maps.flatten(1).topk(min(TOLD, len(part.maps)), dim=0).indices.flatten().tolist()
    useful = part.channels.topk(min(TOLD, len(part.maps)), dim=1).indices.flatten().tolist()
    return sorted({*loud, *useful})


def _loud(vector: torch.Tensor) -> torch.Tensor:
    """A cell that holds nothing has a picture, too: of nothing in particular."""
    return vector if vector.any() else torch.full_like(vector, 1e-3)


def _borrow(other: Store, store: Store, names: Sequence[str]) -> int:
    """Copy pictures that are there already from another store, and say how many of them it has."""
    there, own = other.names("pictures"), store.names("pictures")
    for name in names:
        if f"{name}.png" in there and f"{name}.png" not in own:
            for file in (thumb_file(name), picture_file(name)):  # the picture last: it says that all is there
                store.write(file, other.read(file))
    return sum(f"{name}.png" in there for name in names)


def _layer(store: Store, part: Parts, names: dict[str, tuple[str, ...]], there: Collection[str]) -> dict[str, Any]:
    slug = "".join(letter if letter.isalnum() else "_" for letter in part.layer)
    sheet = {}
    for what, some in names.items():
        drawn = [name for name in dict.fromkeys(some) if name in there]
        file, index = f"sprites/{slug}-{what}.webp", {name: i for i, name in enumerate(drawn)}
        columns = sprites(store, drawn, file)
        sheet[what] = {"file": file, "columns": columns, "icons": [index.get(name, -1) for name in some]}
    flat = part.maps.flatten(1)
    loud, which = flat.topk(min(TOLD, len(flat)), dim=0)
    useful = part.channels.topk(min(TOLD, len(flat)), dim=1)
    return {
        "layer": part.layer,
        "rows": part.maps.shape[1],
        "columns": part.maps.shape[2],
        "sheet": sheet,
        "channels": told_channels(part),
        "loud": _rounded(flat.norm(dim=0)),
        "top": [list(zip(w, _rounded(v), strict=True)) for w, v in zip(which.T.tolist(), loud.T, strict=True)],
        "support": [_rounded(one.flatten()) for one in part.support],
        "useful": [
            list(zip(w, _rounded(v), strict=True)) for w, v in zip(useful.indices.tolist(), useful.values, strict=True)
        ],
        "shares": [_rounded(one.flatten()) for one in part.shares],
        "effects": [_rounded(one) for one in part.effects.T],
        **_hues(part),
        "sources": None
        if part.sources is None
        else {"columns": part.sources.shape[2], "maps": [_rounded(one.flatten()) for one in part.sources]},
    }


def _hues(part: Parts) -> dict[str, Any]:
    """Return a hue for each group, and the mixture of them in each cell with its opacity, all up to 255."""
    if not len(part.groups):
        return {"hues": [], "mixed": [[0, 0, 0, 0]] * part.maps[0].numel()}
    loud = (part.shares * part.groups.norm(dim=1)[:, None, None]).flatten(1)
    total, count = loud.norm(dim=0), len(loud)
    alone_and_mixed = torch.cat([torch.eye(count), loud / total.clamp(min=1e-12)], 1)
    colors = collapse_channels(alone_and_mixed[..., None])[..., 0]
    cells = torch.cat([colors[:, count:], OPAQUE * total[None] / total.amax().clamp(min=1e-12)])
    hues, mixed = ((255 * some).round().int().T.tolist() for some in (colors[:, :count], cells))
    return {"hues": hues, "mixed": mixed}


def _rounded(numbers: torch.Tensor) -> list[float]:
    return [float(f"{number:.4g}") for number in numbers.tolist()]
