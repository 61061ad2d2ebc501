"""Collect the activations of a layer in two folders of photographs: those of a concept, and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.concepts.classify import FOLDS, PhotographActivations
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import image_batches
from featviz.apps.shared.activations.sampled_rows import rows_at_random
from featviz.io import images_in, warn_of_skipped

BATCH = 32
"""Number of photographs per batch."""
LEAST = 2 * FOLDS
"""Smallest number of photographs of each folder: two in each part that is held out."""
PLACES = 64
"""Largest number of positions of a photograph whose activations are used, for classifiers of single positions."""


def activations_of(
    network: fv.Network,
    positive: Path,
    negative: Path,
    layer: str,
    *,
    per_position: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[PhotographActivations, int]:
    """Return the activations of a layer in the photographs of two folders.

    Args:
        network: The network.
        positive: Folder of photographs of the concept. Files that cannot be read are skipped, with a warning.
        negative: Folder of other photographs.
        layer: Name of the layer.
        per_position: Whether activations at positions are collected beside their means.
        seed: Seed of the positions.
        progress: Called with the number of photographs scanned and their total.

    Returns:
        The activations, first of the photographs of the concept, and their number.

    Raises:
        OutputError: A folder is missing, or has no image.
        SettingError: A folder has fewer than `LEAST` photographs that can be read.
        ModelError: The layer outputs NaN or infinite numbers.
    """
    counts = [sum(1 for _ in images_in(folder)) for folder in (positive, negative)]
    means: list[Tensor] = []
    places: list[Tensor] = []
    found = []
    with network.session([layer]) as forward, torch.no_grad():
        for folder, before in zip((positive, negative), (0, counts[0]), strict=True):
            batches = image_batches(
                folder, size=network.size, channels=network.channels, batch=BATCH, skipped=warn_of_skipped
            )
            read = 0
            for batch in batches:
                values = forward(batch.images.to(network.device)).channels_first(layer)
                means.append(values.unsqueeze(-1).flatten(2).float().cpu().mean(2))
                if per_position:
                    places.append(rows_at_random(values, PLACES, seed=seed, first=before + read))
                read += len(batch.files)
                if progress:
                    progress(before + batch.read, sum(counts))
            if read < LEAST:
                raise fv.SettingError(
                    f"a concept needs at least {LEAST} photographs and as many others, and {folder} has {read}; "
                    "add more"
                )
            found.append(read)
    data = PhotographActivations(torch.cat(means), torch.cat(places) if per_position else None)
    check_finite(data.means, network, layer)
    return data, found[0]
