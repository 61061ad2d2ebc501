"""Collect activations at random positions of photographs into files, resumably and in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.growing_files import GrowingFiles
from featviz.apps.shared.activations.image_batches import SkippedFiles, folder_fingerprint, image_batches
from featviz.apps.shared.activations.sampled_rows import ROW_COUNTS, count_batch, draw_positions, half_exponent, to_half
from featviz.apps.shared.arguments.probe import probe
from featviz.apps.shared.operations.contributions import position_contributions
from featviz.io import locked
from featviz.network import OUTPUT

BATCH = 16
"""Number of photographs per batch."""
STEPS = 4
"""Number of steps of integrated gradients, which tell what an activation contributes to the class logits."""
CLASSES = 3
"""Number of most likely classes of a photograph whose logits are attributed to its positions."""
STATE_INTERVAL = 64
"""Number of photographs after which the state is saved."""
COLUMNS = ("vectors", "labels", "shares", "numbers")
"""Properties of a row, each in a file of its own; see `Collected`."""
PHOTOGRAPHS_FILE = "files.txt"
"""File with the paths of the photographs."""


@dataclass(frozen=True)
class Collected:
    """Activations of a layer, one per row, in memory-mapped files.

    Args:
        folder: Folder of the files.
        rows: Number of activations.
        photographs: Number of photographs that they are from.
        channels: Number of channels of the layer.
        classes: Number of classes stored per row; 0 for a network without class logits.
        exponent: Power of 2 by which the stored activations are divided.
    """

    folder: Path
    rows: int
    photographs: int
    channels: int
    classes: int
    exponent: int = 0

    @property
    def vectors(self) -> np.ndarray:
        """The activations divided by 2 to the power of `exponent`, (rows, channels)."""
        return self._open("vectors", np.float16, self.channels)

    @property
    def labels(self) -> np.ndarray:
        """Indices of the most likely classes of each row's photograph, (rows, classes), the most likely first."""
        return self._open("labels", np.int32, self.classes)

    @property
    def shares(self) -> np.ndarray:
        """Contribution of the row to the logits of these classes, (rows, classes): integrated gradients."""
        return self._open("shares", np.float32, self.classes)

    @property
    def numbers(self) -> np.ndarray:
        """Index of each row's photograph, (rows, 1)."""
        return self._open("numbers", np.int32, 1)

    @cached_property
    def files(self) -> list[str]:
        """Paths of the photographs by index, relative to their folder."""
        lines = (self.folder / PHOTOGRAPHS_FILE).read_text(encoding="utf-8").split("\n")[: self.photographs]
        return [json.loads(line) for line in lines]

    def _open(self, name: str, kind: type, width: int) -> np.ndarray:
        if not self.rows or not width:
            return np.empty((self.rows, width), kind)
        return np.memmap(self.folder / f"{name}.bin", kind, "r", shape=(self.rows, width))


def collect(
    network: fv.Network,
    photographs: Path,
    layer: str,
    output: Path,
    *,
    per_image: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Collected:
    """Collect activations of a layer at random positions of each photograph.

    An interrupted run continues where its state was last saved, and a finished one is read from the files. A folder
    whose files have changed is collected again, as are damaged files. A second process waits until the first has
    finished.

    Args:
        network: The network.
        photographs: Folder of images. Files that cannot be read are skipped.
        layer: Name of a layer with positions.
        output: Folder for the files.
        per_image: Number of positions per photograph, >= 1.
        seed: Seed of the positions.
        progress: Called after each batch with the number of photographs scanned and their total.

    Returns:
        The activations.

    Raises:
        AddressError: There is no such layer, or it has no positions.
        OutputError: The folder is missing, has no image that can be read, or `output` cannot be written to.
    """
    count, fingerprint = folder_fingerprint(photographs)
    folder = output / cache_key(network, layer, per_image, seed, str(photographs.resolve()), fingerprint)
    channels = probe(network, [layer]).as_map(layer).shape[1]
    head = network.logits_layer
    classes = 0 if head is None else min(CLASSES, head.channels)
    files = GrowingFiles(folder, [PHOTOGRAPHS_FILE, *(f"{name}.bin" for name in COLUMNS)], ROW_COUNTS)
    with locked(folder):
        skipped = _collect(network, photographs, layer, files, classes, count, per_image, seed, progress)
    if not files.counts["rows"]:
        raise fv.OutputError(f"none of the {count} images in {photographs} can be read")
    skipped.warn()
    counts = files.counts
    return Collected(folder, counts["rows"], counts["photographs"], channels, classes, counts["exponent"])


def _collect(
    network: fv.Network,
    photographs: Path,
    layer: str,
    files: GrowingFiles,
    classes: int,
    count: int,
    per_image: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> SkippedFiles:
    """Collect the data that is missing in the files. See `collect`; `count` is the number of images.

    Returns:
        The files that cannot be read, of those that were read now.
    """
    skipped = SkippedFiles(photographs)
    try:
        files.resume()
        counts = files.counts
        first = counts["seen"]
        batches = image_batches(
            photographs, size=network.size, channels=network.channels, batch=BATCH, skipped=skipped, first=first
        )
        for batch in batches:
            rows = _rows(network, layer, classes, batch.images, per_image, seed, counts["photographs"])
            if not counts["rows"]:
                counts["exponent"] = half_exponent(rows["vectors"])
            rows["vectors"] = to_half(rows["vectors"], counts["exponent"])
            contents = {f"{name}.bin": values.tobytes() for name, values in rows.items()}
            files.append({PHOTOGRAPHS_FILE: _list_paths(batch.files, photographs), **contents})
            count_batch(counts, batch, len(rows["numbers"]))
            if counts["photographs"] % STATE_INTERVAL < BATCH or batch.read == count:
                files.save()
            if progress:
                progress(batch.read, count)
        if progress and first < count > counts["seen"]:
            progress(count, count)  # the last files cannot be read, so that no batch reported them
        if counts["seen"] < count:
            counts["seen"] = count
            files.save()
    except OSError as error:
        raise fv.OutputError(f"cannot write to {files.folder}: {error.strerror or error}") from error
    return skipped


def _list_paths(files: Sequence[Path], photographs: Path) -> bytes:
    """Return lines with the paths of photographs, relative to their folder."""
    return "".join(f"{json.dumps(str(file.relative_to(photographs)))}\n" for file in files).encode()


def _rows(
    network: fv.Network, layer: str, classes: int, images: Tensor, per_image: int, seed: int, first: int
) -> dict[str, np.ndarray]:
    """Return the rows of a batch of photographs.

    Args:
        network: The network.
        layer: Name of the layer.
        classes: Number of classes per photograph.
        images: The photographs.
        per_image: Number of positions per photograph.
        seed: Seed of the positions.
        first: Index of the first photograph.
    """
    with network.session([layer, *([OUTPUT] if classes else [])]) as forward, torch.enable_grad():
        acts = forward(images.to(network.device).requires_grad_())
        maps = acts.as_map(layer)
        total = maps.shape[2] * maps.shape[3]
        positions = draw_positions(len(images), total, per_image, seed=seed, first=first).to(maps.device)
        index = positions[:, None].expand(-1, maps.shape[1], -1)
        vectors = check_finite(maps.detach().flatten(2).gather(2, index), network, layer)
        labels, shares = [], []
        if classes:
            top = acts.logits().topk(classes).indices
            contributions = position_contributions(forward, images.to(network.device), acts, layer, top, STEPS)
            shares = list(contributions.flatten(2).gather(2, positions[:, None].expand(-1, classes, -1)).unbind(1))
            labels = [top[:, k : k + 1].expand(-1, positions.shape[1]) for k in range(classes)]
    rows = vectors.transpose(1, 2).flatten(0, 1).float().cpu().numpy()
    numbers = np.repeat(np.arange(first, first + len(images)), positions.shape[1])[:, None]

    def per_row(columns: list[Tensor]) -> Any:
        return torch.stack(columns, -1).flatten(0, 1).cpu().numpy() if columns else rows[:, :0]

    return {
        "vectors": rows,
        "labels": per_row(labels).astype(np.int32),
        "shares": per_row(shares).astype(np.float32),
        "numbers": numbers.astype(np.int32),
    }
