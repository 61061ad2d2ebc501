"""Where embeddings come from: files of word vectors, text networks, photographs, or given numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import featviz as fv
from featviz.apps.embeddings.arguments import as_numbers, check_count
from featviz.apps.embeddings.embeddings import Embeddings
from featviz.apps.embeddings.photographs import embed_folder
from featviz.apps.embeddings.vector_file import read_vectors
from featviz.apps.shared.activations.embedding import last_layer
from featviz.engine import entry_point, unchecked
from featviz.errors import shown
from featviz.io import auto_bar
from featviz.network import LayerLike


@entry_point(reads_text=True, checks={"source": unchecked})
def embeddings(
    source: str | Path | fv.Network | tuple[Sequence[str], Any],
    *,
    photographs: str | Path | None = None,
    layer: LayerLike | None = None,
    limit: int | None = None,
    center: bool | None = None,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Embeddings:
    """Get vectors with names, to find nearest neighbours and analogies and to draw maps.

    They come from a file of word vectors, the embedding matrix of a text network, a layer's activations in
    photographs, or are given.

    Args:
        source: A text file of word vectors as word2vec, GloVe and fastText write them, possibly compressed by gzip; a
            network; or a pair of names and an array, (names, numbers). Of equal names the first is kept.
        photographs: Folder of images, for a network of images. Files that cannot be read are skipped.
        layer: Name of the layer, for photographs: the mean over its positions, or its class token. `None` for the last
            layer with positions, else the last one before the output.
        limit: Number of names to read, >= 1; `None` for all.
        center: Subtract the mean of all vectors; `None` to do so for photographs. Activations have a large part in
            common, which would make all of them similar.
        progress: Called with the number of files or bytes read and their total.

    Returns:
        The embeddings.

    Raises:
        OutputError: A file or folder cannot be read.
        AddressError: There is no such layer.
        SettingError: The arguments do not fit each other or are out of their range, or the network has no embedding
            matrix.
    """
    limit = None if limit is None else check_count("limit", limit)
    if center is not None and not isinstance(center, bool):
        raise fv.SettingError(f"center must be True, False or None, got {shown(center)}")
    if isinstance(source, fv.Network) and photographs is not None:
        found = _from_photographs(source, Path(photographs), layer, limit, progress)
        return _center(found, center is not False)
    for name, value in (("photographs", photographs), ("layer", layer)):
        if value is not None:
            raise fv.SettingError(f"{name} needs a network as source, with photographs=, a folder of images")
    if isinstance(source, fv.Network):
        found = _from_matrix(source, limit)
    elif isinstance(source, str | Path):
        if not str(source) or "\0" in str(source):
            raise fv.SettingError(f"source must be a file of vectors, a network or names and vectors, got {source!r}")
        names, array = read_vectors(Path(source), limit, progress)
        found = _drop_repeats(names, torch.from_numpy(array), Path(source).name)
    else:
        found = _from_pair(source, limit)
    return _center(found, center is True)


def _from_photographs(
    network: fv.Network,
    folder: Path,
    layer: LayerLike | None,
    limit: int | None,
    progress: Callable[[int, int], None] | None,
) -> Embeddings:
    if network.tokens is not None:
        raise fv.SettingError(f"{network.label} reads text; leave out photographs to embed its tokens")
    name = last_layer(network) if layer is None else network.name_of(layer) or ""
    found = embed_folder(network, folder, name, progress)
    names = found.names[:limit]
    files = tuple(folder / file for file in names)
    title = f"{folder.resolve().name or folder}, {name or 'logit'} of {network.label}"
    vectors = found.vectors[:limit]
    return Embeddings(names, vectors, title, torch.zeros(vectors.shape[1]), files, network, name, found.skipped)


def _from_matrix(network: fv.Network, limit: int | None) -> Embeddings:
    """Return the rows of a text network's embedding matrix, by their tokens.

    Raises:
        SettingError: The network does not read text.
    """
    if network.tokens is None:
        raise fv.SettingError(
            f"{network.label} has no embedding matrix; give photographs=, a folder of images, to embed these"
        )
    matrix = network.embedding.weight.detach()
    count = min(network.tokens.size, len(matrix), limit or len(matrix))  # some matrices are padded
    return _drop_repeats(
        network.tokens.words(range(count)), matrix[:count].float().cpu(), f"the tokens of {network.label}"
    )


def _from_pair(source: Any, limit: int | None) -> Embeddings:
    """Check names and vectors that are given.

    Raises:
        SettingError: They are no such pair.
    """
    wanted = "source must be a file of vectors, a network, or a pair of names and vectors"
    if not isinstance(source, tuple | list) or len(source) != 2:
        raise fv.SettingError(f"{wanted}, got {shown(source)}")
    names, numbers = source
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise fv.SettingError(f"{wanted}; the names must be a sequence of text, got {shown(names)}")
    array = as_numbers(numbers, f"{wanted}; the vectors must be an array of numbers")
    if array.ndim != 2 or len(array) != len(names) or not array.numel():
        raise fv.SettingError(
            f"{wanted}; of {len(names)} names the vectors must have shape ({len(names)}, numbers), "
            f"got {tuple(array.shape)}"
        )
    return _drop_repeats(list(names)[:limit], array[:limit], "given vectors")


def _drop_repeats(names: Sequence[str], vectors: Tensor, source: str) -> Embeddings:
    """Return embeddings of words, without names that come again.

    Raises:
        SettingError: A number is NaN or infinite.
    """
    finite = vectors.isfinite().all(1)
    if not finite.all():
        raise fv.SettingError(f"vectors must be finite; that of {shown(names[int((~finite).nonzero()[0])])} is not")
    rows = {name: row for row, name in reversed(list(enumerate(names)))}  # of equal names the first remains
    if len(rows) < len(names):
        first = sorted(rows.values())
        names, vectors = [names[row] for row in first], vectors[first]
    return Embeddings(tuple(names), vectors, source, torch.zeros(vectors.shape[1]))


def _center(found: Embeddings, center: bool) -> Embeddings:
    """Return embeddings with the mean subtracted, if that is wanted and there are several."""
    if not center or len(found) < 2:
        return found
    mean = found.vectors.double().mean(0).float()
    return replace(found, vectors=found.vectors - mean, mean=mean)
