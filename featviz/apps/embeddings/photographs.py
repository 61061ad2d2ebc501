"""Embed photographs by the activations of a layer: one vector per photograph, from a folder or from one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.embedding import pool, uses_class_token
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import SkippedFiles, folder_fingerprint, image_batches
from featviz.io import cache_folder, read_photograph, write_cached

BATCH = 32
"""Number of photographs per batch."""


@dataclass(frozen=True, eq=False)
class EmbeddedPhotographs:
    """The activations of a layer in the photographs of a folder.

    Args:
        names: Paths of the photographs, relative to the folder.
        vectors: One per photograph.
        skipped: The first files that could not be read, relative to the folder, and the reason.
    """

    names: tuple[str, ...]
    vectors: Float[Tensor, "n channels"]
    skipped: Mapping[str, str]


def embed_folder(
    network: fv.Network, folder: Path, layer: str, progress: Callable[[int, int], None] | None
) -> EmbeddedPhotographs:
    """Embed the photographs of a folder, or read the result of an earlier run from the cache.

    Args:
        network: The network.
        folder: Folder of photographs, with all folders below it. Files that cannot be read are skipped.
        layer: Name of the layer.
        progress: Called after each batch with the number of files read and the number of files.

    Returns:
        The photographs that can be read, and the vector of each.

    Raises:
        AddressError: There is no such layer.
        OutputError: The folder is missing, or has no image that can be read.
        ModelError: The layer outputs NaN or infinite numbers.
    """
    network.layer(layer)
    count, fingerprint = folder_fingerprint(folder)
    key = cache_key(network, fv.__version__, fingerprint, layer)
    file = cache_folder() / "embeddings" / f"{key}.safetensors"
    found = _read_cache(file)
    if found is None:
        found = _embed(network, folder, layer, count, progress)
        _write_cache(file, found)
    return found


def embed_file(network: fv.Network, file: Path, layer: str) -> Float[Tensor, " channels"]:
    """Embed one photograph.

    Args:
        network: The network.
        file: The photograph.
        layer: Name of the layer.

    Raises:
        OutputError: The file cannot be read.
        SettingError: The image has other channels than the network takes.
        ModelError: The layer outputs NaN or infinite numbers.
    """
    image = read_photograph(file, size=network.size, channels=network.channels)
    return _vectors(network, image[None], layer)[0]


def _embed(
    network: fv.Network, folder: Path, layer: str, count: int, progress: Callable[[int, int], None] | None
) -> EmbeddedPhotographs:
    """Embed the `count` images of a folder; see `embed_folder`."""
    names: list[str] = []
    vectors: list[Tensor] = []
    skipped = SkippedFiles(folder)
    for batch in image_batches(folder, size=network.size, channels=network.channels, batch=BATCH, skipped=skipped):
        vectors.append(_vectors(network, batch.images, layer))
        names += [file.relative_to(folder).as_posix() for file in batch.files]
        if progress:
            progress(min(count, batch.read), count)
    if not names:
        raise skipped.error()
    return EmbeddedPhotographs(tuple(names), torch.cat(vectors), skipped.first)


def _vectors(network: fv.Network, images: Float[Tensor, "n c h w"], layer: str) -> Float[Tensor, "n channels"]:
    """Return the class token of each image where there is one, else the mean over positions."""
    with torch.no_grad():
        acts = network.capture(images, [layer])
        found = pool(acts, layer, class_token=uses_class_token(network, layer)).float().cpu()
    return check_finite(found, network, layer)


def _read_cache(file: Path) -> EmbeddedPhotographs | None:
    """Read a folder's vectors from the cache; `None` where there are none or the file is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            vectors = opened.get_tensor("vectors")
        names = tuple(json.loads(about["names"]))
        return EmbeddedPhotographs(names, vectors, json.loads(about["skipped"])) if len(names) == len(vectors) else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write_cache(file: Path, found: EmbeddedPhotographs) -> None:
    from safetensors.torch import save

    about = {"names": json.dumps(found.names), "skipped": json.dumps(dict(found.skipped))}
    write_cached(file, save({"vectors": found.vectors.contiguous()}, metadata=about))
