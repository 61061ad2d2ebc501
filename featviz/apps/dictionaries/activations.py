"""Collect activations of a layer over a folder into one file, resumably and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.growing_files import GrowingFiles
from featviz.apps.shared.activations.image_batches import SkippedFiles, folder_fingerprint, image_batches
from featviz.apps.shared.activations.sampled_rows import ROW_COUNTS, count_batch, half_exponent, rows_at_random, to_half
from featviz.io import cache_folder, locked

BATCH = 32
"""Number of photographs per batch."""
STATE_INTERVAL = 128
"""Number of photographs after which the state is saved."""
VECTORS = "vectors.bin"
"""File with one row of activations per position, in half precision."""


@dataclass(frozen=True, eq=False)
class CollectedActivations:
    """Activations of a layer over a folder, one row per position, in the order of the photographs.

    Args:
        folder: Folder with the file of the rows.
        rows: Number of rows.
        photographs: Number of photographs that they are from.
        channels: Number of channels of the layer.
        exponent: Power of 2 by which the stored activations are divided.
    """

    folder: Path
    rows: int
    photographs: int
    channels: int
    exponent: int = 0

    @property
    def stored(self) -> np.ndarray:
        """The activations divided by 2 to the power of `exponent`, (rows, channels), memory-mapped."""
        return np.memmap(self.folder / VECTORS, np.float16, "r", shape=(self.rows, self.channels))

    def take(self, indices: Tensor) -> Float[Tensor, "n channels"]:
        """Return some rows in single precision.

        Args:
            indices: Their indices.
        """
        return torch.from_numpy(np.ldexp(np.asarray(self.stored[indices.numpy()], np.float32), self.exponent))

    def some(self, most: int, seed: int) -> Float[Tensor, "n channels"]:
        """Return rows drawn at random without replacement, or all of them in order.

        Args:
            most: Largest number of rows.
            seed: Seed of the draw.
        """
        if self.rows <= most:
            return self.take(torch.arange(self.rows))
        generator = torch.Generator().manual_seed(seed)
        return self.take(torch.randperm(self.rows, generator=generator)[:most].sort().values)


def collect_activations(
    network: fv.Network,
    photographs: Path,
    layer: str,
    per_image: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> CollectedActivations:
    """Collect activations of a layer at random positions of each photograph, in the cache of featviz.

    An interrupted run continues where its state was last saved, and a finished one is read from the file. A folder
    whose files have changed is collected anew. Another process that collects the same is waited for.

    Args:
        network: The network.
        photographs: Folder of images. Files that cannot be read are skipped.
        layer: Name of any layer; one vector per image has one position, tokens have all of theirs.
        per_image: Largest number of positions per photograph, >= 1.
        seed: Seed of the positions.
        progress: Called after each batch with the number of photographs scanned and their total.

    Returns:
        The activations.

    Raises:
        AddressError: There is no such layer.
        OutputError: The folder is missing, or has no image that can be read.
        ModelError: The layer outputs NaN or infinite numbers.
    """
    channels = network.layer(layer).channels
    count, fingerprint = folder_fingerprint(photographs)
    key = cache_key(network, layer, per_image, seed, str(photographs.resolve()), fingerprint)
    folder = cache_folder() / "activations" / key
    skipped, files = SkippedFiles(photographs), GrowingFiles(folder, [VECTORS], ROW_COUNTS)
    with locked(folder):
        try:
            _collect(network, photographs, layer, files, skipped, count, per_image, seed, progress)
        except OSError as error:
            raise fv.OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    if not files.counts["rows"]:
        raise skipped.error()
    skipped.warn()
    counts = files.counts
    return CollectedActivations(folder, counts["rows"], counts["photographs"], channels, counts["exponent"])


def _collect(
    network: fv.Network,
    photographs: Path,
    layer: str,
    files: GrowingFiles,
    skipped: SkippedFiles,
    count: int,
    per_image: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Collect the missing activations. See `collect_activations`; `count` is the number of images."""
    files.resume()
    counts = files.counts
    batches = image_batches(
        photographs, size=network.size, channels=network.channels, batch=BATCH, skipped=skipped, first=counts["seen"]
    )
    if counts["seen"] < count or not counts["rows"]:
        with network.session([layer]) as forward, torch.no_grad():
            for batch in batches:
                acts = forward(batch.images.to(network.device))
                values = check_finite(acts.channels_first(layer), network, layer)
                sampled = rows_at_random(values, per_image, seed=seed, first=counts["photographs"])
                rows = sampled.flatten(0, 1).numpy()
                if not counts["rows"]:
                    counts["exponent"] = half_exponent(rows)
                files.append({VECTORS: to_half(rows, counts["exponent"]).tobytes()})
                count_batch(counts, batch, len(rows))
                if counts["photographs"] % STATE_INTERVAL < BATCH or batch.read == count:
                    files.save()
                if progress:
                    progress(batch.read, count)
        if counts["rows"] and counts["seen"] < count:  # the last files cannot be read
            counts["seen"] = count
            files.save()
    if progress:
        progress(count, count)
