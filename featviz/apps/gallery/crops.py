"""Photographs that activate units, as crops beside their images."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

import featviz as fv
from featviz.apps.gallery.page import Photograph
from featviz.apps.shared.pages.input_pictures import encode_input
from featviz.apps.shared.pages.photographs import read_whole
from featviz.io import Store
from featviz.io.plots import BARE_RATIO, BARE_ROWS


def write_crops(store: Store, network: fv.Network, examples: Any) -> dict[int, list[Photograph]]:
    """Write the photographs with the highest activation, unless they are in the store.

    Of each channel, the crops and their mean are written; of each photograph, a small copy that channels share.

    Args:
        store: Where they are written.
        network: The network.
        examples: What `fv.examples` found.

    Returns:
        The crops, by channel.
    """
    crops = {channel: _crops(network, examples, channel) for channel in examples.channels}
    wholes = {_whole_file(examples, place.file): place.file for k in crops for place in examples.places(k)}
    existing = store.intact_images([*wholes, *(crop.file for some in crops.values() for crop in some)])
    for channel, some in crops.items():
        if not existing.issuperset(crop.file for crop in some):
            images = [example.crop for example in examples.of(channel)]
            for crop, image in zip(some, [*images, torch.stack(images).mean(0)], strict=False):
                store.write(crop.file, encode_input(image, network.input.axes))
    for file in wholes.keys() - existing:
        image = read_whole(wholes[file], network.input)
        store.write(file, encode_input(image, network.input.axes))
    return crops


def _crops(network: fv.Network, examples: Any, channel: int) -> list[Photograph]:
    """Return the crops with the highest activation of a channel, and, if there are several, their mean."""
    places, stem, found = examples.places(channel), f"photographs/{examples.key}-{channel}", []
    for i, place in enumerate(places):
        facts = {"activation": f"{place.activation:.4g}", "photograph": place.file.name}
        whole = _whole_file(examples, place.file)
        found.append(
            Photograph(f"{stem}-{i}.webp", f"photograph {i + 1}", facts, whole, *_relative_box(network, place.box))
        )
    mean = Photograph(f"{stem}-{len(places)}.webp", f"mean of {len(places)} photographs")
    return [*found, mean] if len(places) > 1 else found


def _relative_box(network: fv.Network, box: tuple[int, ...]) -> tuple[tuple[float, float, float, float], float]:
    """Return a box as shares of the picture of the whole input, and the ratio of the picture's width to its height.

    A volume, whose slices do not show where a box lies, has none.
    """
    size = network.size
    if len(size) == 2:
        (height, width), (top, bottom, left, right) = size, box
        return (top / height, bottom / height, left / width, right / width), width / height
    if len(size) == 1:
        rows = network.channels if network.channels <= BARE_ROWS else 1
        return (0.0, 1.0, box[0] / size[0], box[1] / size[0]), 1 / (BARE_RATIO * rows)
    return (0.0, 1.0, 0.0, 1.0), 1.0


def _whole_file(examples: Any, photograph: Path) -> str:
    """Name the small copy of a photograph. The name changes with the folder and its contents."""
    return f"photographs/{examples.key}-{sha256(os.fsencode(photograph)).hexdigest()[:12]}.webp"
