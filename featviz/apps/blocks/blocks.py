"""Page of an image, signal, volume or video: features that each layer detects where, and their contributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.blocks.decompose import Parts, take_apart
from featviz.apps.blocks.page import LayerIcons, icon_channels, write_page
from featviz.apps.shared.arguments.classes import find_classes, network_title
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.arguments.inputs import separate_inputs
from featviz.apps.shared.arguments.output import check_sweep
from featviz.apps.shared.arguments.probe import check_layers, in_network_order
from featviz.apps.shared.judging.predictions import predict
from featviz.apps.shared.rendering.album import Album, Pages, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.icons import add_icons, check_icon_param
from featviz.apps.shared.rendering.stored_images import copy_images
from featviz.apps.shared.rendering.stored_precisions import copy_precisions
from featviz.engine import entry_point
from featviz.errors import warn
from featviz.io import GivenImage, Store, auto_bar, slug

COSINE_POWER = 2.0
"""Exponent of the cosine in the objective of a cell or group. Higher values show what is specific to it."""
LIKELIEST_CLASSES = 5
"""Number of most likely classes that are always shown."""
KINDS = {"x": "a signal", "yx": "an image", "zyx": "a volume", "tyx": "a video"}
"""What the title calls an input without a file name, by its axes."""
CELLS = {1: 16, 2: 10, 3: 4}
"""Default of the maximum number of cells along the longest side, by the number of spatial axes."""
MIN_LENGTH = 1e-3
"""Value of each channel in the direction of a cell or group without any activation."""


@entry_point(any_axes=True)
def blocks(
    network: fv.Network,
    image: GivenImage,
    layers: str | Sequence[str],
    output: str | Path,
    *,
    classes: Sequence[str | int] = (),
    cells: int | None = None,
    groups: int = 6,
    sweep: str | Path | None = None,
    param: Any = None,
    size: int | tuple[int, ...] | None = None,
    steps: int = 256,
    seed: int = 0,
    backend: Backend | None = None,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Pages | Any:
    """Show what layers detect in each part of an image, and what that contributes to class logits.

    Of a signal, the page shows the line, with cells along it; of a volume or a video, one plane at a time.

    Each cell of a layer's map is rendered as an icon of its activations. All icons start from the same noise and see
    the same transforms, so that similar cells look alike. The contribution of a cell is the fall of a class logit when
    the cell and its neighbours are replaced by the layer's mean. A constant is added to all cells, so that their sum is
    the fall when the whole layer is zero.

    Args:
        network: A classifier.
        image: A file, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w); or several of them: a
            folder, a batch or a list. For signals, volumes and video as for `explain`.
        layers: Name of one or several feature maps, or token layers with a patch grid.
        output: A folder, or a URL that fsspec supports.
        classes: Names or indices of classes to show, besides the five most likely.
        cells: Maximum number of cells along the longest side, >= 1. Finer maps are averaged. `None` for 10, for signals
            16, and for volumes and video 4. Time of video is counted on its own.
        groups: Number of groups into which the activations of a layer are factorised, >= 1.
        sweep: Folder of a sweep. Channels that it has with the same size, steps, seed and param are copied; `None` to
            render all.
        param: Image parameterization of the icons: `param.CPPN()` for smooth ones, `param.Alpha()` for ones that are
            transparent where little matters (networks of 1 or 3 channels); `None` for `param.Image()`.
        size: Length of each axis of an icon in px, or one side; `None` for the param's size, or else the network's.
        steps: Steps of each icon, >= 0.
        seed: Seed of every icon, >= 0.
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        progress: Called after each icon with the number of icons done and the number to render.

    Returns:
        The page and why icons are missing, if any are. For a folder, a batch or a list, a list with one of them per
        image, in subfolders of the output that are named by number and file.

    Raises:
        AddressError: There is no such layer or class, or a layer has no positions.
        SettingError: An argument is out of its range, or scikit-learn is not installed.
        OutputError: The image cannot be read, `sweep` is missing, or the folder cannot be written to.

    Source: Olah et al. 2018, https://doi.org/10.23915/distill.00010.
    """
    cells = CELLS[len(network.size)] if cells is None else cells
    for name, value in (("cells", cells), ("groups", groups)):
        if value < 1:
            raise fv.SettingError(f"{name} must be >= 1, got {value}")
    check_icon_param(param)
    several = separate_inputs(network, image)
    if several is not None:
        how: dict[str, Any] = {
            "classes": classes, "cells": cells, "groups": groups, "sweep": sweep, "param": param, "size": size,
            "steps": steps, "seed": seed, "backend": backend, "progress": progress,
        }  # fmt: skip
        folders = [f"{output}/{_folder_name(i, each)}" for i, each in enumerate(several)]
        return [blocks(network, each, layers, folder, **how) for each, folder in zip(several, folders, strict=True)]
    pixels = as_images(network, image)
    probabilities = predict(network, pixels)[0]
    shown = _shown_classes(network, classes, probabilities)
    names = in_network_order(network, check_layers(network, layers))
    try:
        parts = take_apart(network, pixels, names, shown, most=cells, groups=groups)
    except ImportError as error:
        raise fv.SettingError("scikit-learn is not installed; run: pip install 'featviz[atlas]'") from error
    check_sweep(sweep)
    store = Store(output)
    if sweep is not None:
        copy_precisions(Store(sweep), store)
    albums, icons = [], []
    for part in parts:
        album, of_layer = _plan_icons(network, store, part, param=param, size=size, steps=steps, seed=seed)
        albums.append(album)
        icons.append(of_layer)
    if sweep is not None and not copy_images(
        Store(sweep), store, [name for album in albums for batch in album.batches for name in batch.names]
    ):
        missing = f"no image in {sweep} has these channels, {steps} steps, seed {seed}, this size and this param"
        warn(f"{missing}; all icons are rendered")
    shown_image = Path(image).name if isinstance(image, str | Path) else KINDS[network.input.axes]
    title = f"What {network_title(network)} detects in {shown_image}"

    def write_pages(rendered: RenderedImages) -> list[str]:
        chances = {index: probabilities[index].item() for index in shown}
        return [write_page(network, title, pixels[0], chances, parts, icons, rendered)]

    return render_pages(network, albums, store, write_pages, backend, progress)


def _folder_name(number: int, image: GivenImage) -> str:
    """Return the name of the output folder of one of several images."""
    return f"{number:03d}-{slug(Path(image).stem)}" if isinstance(image, str | Path) else f"{number:03d}"


def _shown_classes(
    network: fv.Network, classes: Sequence[str | int], probabilities: Float[Tensor, " classes"]
) -> list[int]:
    """Return the indices of the given classes, then of the most likely ones.

    Raises:
        AddressError: There is no such class.
    """
    likeliest = probabilities.topk(min(LIKELIEST_CLASSES, len(probabilities))).indices.tolist()
    given = find_classes(network, classes) if len(classes) else []
    return list(dict.fromkeys([*given, *likeliest]))


def _plan_icons(
    network: fv.Network,
    store: Store,
    part: Parts,
    *,
    param: Any,
    size: int | tuple[int, ...] | None,
    steps: int,
    seed: int,
) -> tuple[Album, LayerIcons]:
    """Plan the icons of a layer: of its cells, its groups, and the channels that are listed with them.

    Returns:
        The album, and the names of the icons by kind.
    """
    layer, places = part.layer, np.ndindex(*part.maps.shape[1:])
    cells = [fv.objectives.Direction(layer, _nonzero(vector), COSINE_POWER) for vector in part.maps.flatten(1).T]
    groups = [fv.objectives.Direction(layer, _nonzero(vector), COSINE_POWER) for vector in part.groups]
    channels = icon_channels(part)
    kinds: dict[str, tuple[list[Any], list[str]]] = {
        "cells": (cells, [f"{layer}: {_cell_title(place)}" for place in places]),
        "groups": (groups, [f"{layer}: group {i + 1}" for i in range(len(groups))]),
        "channels": ([fv.objectives.Channel(layer, k) for k in channels], [f"{layer}:{k}" for k in channels]),
    }
    album, names = Album(network, store), {}
    for kind, (objectives, titles) in kinds.items():
        if objectives:
            names[kind] = add_icons(album, objectives, titles, param=param, size=size, steps=steps, seed=seed)
    return album, names


def _cell_title(place: Sequence[int]) -> str:
    """Name a cell by its place along each axis."""
    names = ("plane", "row", "column")[-len(place) :] if len(place) > 1 else ("cell",)
    return ", ".join(f"{name} {at}" for name, at in zip(names, place, strict=True))


def _nonzero(vector: Float[Tensor, " channel"]) -> Float[Tensor, " channel"]:
    """Replace a direction of zeros, which has no gradient, by a short one of equal channels."""
    return vector if vector.any() else torch.full_like(vector, MIN_LENGTH)
