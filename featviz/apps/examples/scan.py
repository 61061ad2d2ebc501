"""Scan a folder once for the photographs that activate each channel of a layer most, least and in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import SkippedFiles, folder_fingerprint, image_batches
from featviz.io import cache_folder, write_cached
from featviz.network import Activations

MEDIAN_SAMPLE = 512
"""Size of the random sample of photographs in which those near the median are searched."""
BATCH = 32
"""Number of photographs per batch."""
MAX_UNUSED_FILES = 4096
"""Number of file names to keep in memory before those that no ranking refers to are dropped."""
Range = Literal["top", "middle", "bottom"]
"""Part of the range of a channel's activation: the highest, those nearest to the median, or the lowest."""
RANGES: tuple[Range, ...] = ("top", "middle", "bottom")


class Ranked(NamedTuple):
    """For each channel of a layer, k photographs from one part of its range.

    Args:
        photographs: Index of each photograph, in the order of the folder.
        activations: The channel's largest activation in each.
        positions: Position of this activation, as an index into the flattened positions of the layer.
    """

    photographs: Int[Tensor, "k channel"]
    activations: Float[Tensor, "k channel"]
    positions: Int[Tensor, "k channel"]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a folder holds for the channels of a layer.

    Args:
        ranked: Photographs for each part of the range: `"top"`, `"middle"` and `"bottom"`.
        files: Path of each photograph in `ranked`, by index.
        skipped: The first files that could not be read, relative to the folder, and the reason.
        skipped_count: Number of files that could not be read.
    """

    ranked: Mapping[str, Ranked]
    files: Mapping[int, Path]
    skipped: Mapping[str, str]
    skipped_count: int = 0


class TopK:
    """Keeps, for each channel, the k items with the highest rank of all that it has seen.

    Args:
        k: Number of items.
        sign: -1 keeps the items with the lowest rank instead.
    """

    def __init__(self, k: int, sign: int = 1) -> None:
        self.k, self.sign = k, sign
        self.columns: tuple[Tensor, ...] = ()

    def update(self, *columns: Tensor) -> None:
        """Add items.

        Args:
            columns: Properties of the items, each (items, channels): the index, the rank, and any others.
        """
        both = tuple(map(torch.cat, zip(self.columns, columns, strict=True))) if self.columns else columns
        best = (self.sign * both[1]).topk(min(self.k, len(both[1])), dim=0).indices
        self.columns = tuple(column.gather(0, best) for column in both)


def scan_folder(
    network: fv.Network,
    folder: Path,
    layer: str,
    top: int,
    rest: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[str, Scan]:
    """Scan a folder, or read the result of an earlier scan from the cache.

    Args:
        network: The network.
        folder: Folder of photographs.
        layer: Name of the layer.
        top: Number of photographs with the highest activation to keep per channel.
        rest: Number near the median, and number with the lowest activation, to keep per channel.
        progress: Called after each batch with the number of files read and the number of files.

    Returns:
        Hash of the folder, the network and the layer; and the scan.

    Raises:
        OutputError: The folder is missing, or has no image that can be read.
    """
    count, fingerprint = folder_fingerprint(folder, network.input)
    key = cache_key(network, fv.__version__, fingerprint, layer, top, rest)
    file = cache_folder() / "examples" / f"{key}.safetensors"
    scan = _read_cache(file, folder)
    if scan is None:
        scan = _scan(network, folder, layer, top, rest, count, progress)
        _write_cache(file, scan, folder)
    return key, scan


class Ranking:
    """Ranks the photographs of a folder for each channel of a layer, batch by batch.

    Memory grows with the number of channels, not with the number of photographs: the highest and lowest activations
    are kept in running top-k lists, and the median is found in a random sample. The sample is also a running top-k
    list, ranked by a random number per photograph (reservoir sampling with random sort keys).

    Args:
        top: Number of photographs with the highest activation to keep per channel.
        rest: Number near the median, and number with the lowest activation, to keep per channel.
    """

    def __init__(self, top: int, rest: int) -> None:
        self.rest, self.seen = rest, 0
        self._highest, self._lowest, self._sample = TopK(top), TopK(rest, -1), TopK(MEDIAN_SAMPLE)
        self._files: dict[int, Path] = {}
        self._generator = torch.Generator().manual_seed(0)

    def update(
        self, files: Sequence[Path], activation: Float[Tensor, "n channel"], position: Int[Tensor, "n channel"]
    ) -> None:
        """Add photographs.

        Args:
            files: Their paths.
            activation: The channel's largest activation in each.
            position: Position of this activation.
        """
        index = torch.arange(self.seen, self.seen + len(files))[:, None].expand_as(position)
        self._files |= dict(enumerate(files, self.seen))
        self.seen += len(files)
        self._highest.update(index, activation, position)
        self._lowest.update(index, activation, position)
        sort_key = torch.rand(len(files), 1, generator=self._generator).expand_as(activation)
        self._sample.update(index, sort_key, position, activation)
        if len(self._files) > MAX_UNUSED_FILES + 2 * MEDIAN_SAMPLE:
            kept = [each.columns[0] for each in (self._highest, self._lowest, self._sample)]
            self._files = _only_used(self._files, kept)

    def scan(self, skipped: SkippedFiles) -> Scan:
        """Return the ranked photographs.

        Args:
            skipped: The files that could not be read.

        Raises:
            OutputError: There was no photograph.
        """
        if not self.seen:
            raise skipped.error()
        index, _, position, activation = self._sample.columns
        distance = (activation - activation.median(0).values).abs()
        nearest = distance.topk(min(self.rest, len(distance)), dim=0, largest=False).indices
        ranked: dict[str, Ranked] = {
            "top": Ranked(*self._highest.columns),
            "middle": Ranked(*(column.gather(0, nearest) for column in (index, activation, position))),
            "bottom": Ranked(*self._lowest.columns),
        }
        used = _only_used(self._files, [part.photographs for part in ranked.values()])
        return Scan(ranked, used, skipped.first, skipped.count)


def strongest(acts: Activations, layer: str) -> tuple[Float[Tensor, "n channel"], Int[Tensor, "n channel"]]:
    """Return the largest activation of each channel over all positions, and its position.

    Args:
        acts: Activations of images.
        layer: Name of the layer.
    """
    found = acts.channels_first(layer).unsqueeze(-1).flatten(2).cpu().max(2)
    return found.values, found.indices


def _scan(
    network: fv.Network,
    folder: Path,
    layer: str,
    top: int,
    rest: int,
    count: int,
    progress: Callable[[int, int], None] | None,
) -> Scan:
    """Scan a folder of `count` images; see `scan_folder`."""
    ranking, skipped = Ranking(top, rest), SkippedFiles(folder)
    for batch in image_batches(
        folder, size=network.size, channels=network.channels, spec=network.input, batch=BATCH, skipped=skipped
    ):
        with torch.no_grad():
            found = strongest(network.capture(batch.images, [layer]), layer)
        check_finite(found[0], network, layer)
        ranking.update(batch.files, *found)
        if progress:
            progress(min(count, batch.read), count)
    return ranking.scan(skipped)


def _only_used(files: Mapping[int, Path], indices: Sequence[Tensor]) -> dict[int, Path]:
    """Return the files that any of the indices refers to."""
    used = {index for some in indices for index in some.unique().tolist()}
    return {index: file for index, file in files.items() if index in used}


def _read_cache(file: Path, folder: Path) -> Scan | None:
    """Read a scan from the cache; `None` where there is none or it is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
            return scan_of(tensors, opened.metadata() or {}, folder)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, IndexError):
        return None


def _write_cache(file: Path, scan: Scan, folder: Path) -> None:
    from safetensors.torch import save

    tensors, about = tensors_of(scan, folder)
    write_cached(file, save(tensors, metadata=about))


def scan_of(tensors: Mapping[str, Tensor], about: Mapping[str, str], folder: Path) -> Scan:
    """Return the scan of a cached file.

    Args:
        tensors: Tensors of the file.
        about: Metadata of the file.
        folder: The folder of photographs.

    Raises:
        KeyError: Something is missing.
        ValueError: The metadata cannot be read, or do not fit the tensors.
    """
    ranked: dict[str, Ranked] = {
        name: Ranked(*(tensors[f"{name}.{column}"] for column in Ranked._fields)) for name in RANGES
    }
    files = {int(index): folder / name for index, name in json.loads(about["files"]).items()}
    if not all(files.keys() >= set(each.photographs.flatten().tolist()) for each in ranked.values()):
        raise ValueError("a photograph of the scan has no path")
    return Scan(ranked, files, json.loads(about["skipped"]), int(about["skipped_count"]))


def tensors_of(scan: Scan, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file from which `scan_of` reads a scan again.

    Args:
        scan: The scan.
        folder: The folder of photographs.
    """
    tensors = {
        f"{name}.{column}": tensor.contiguous()
        for name, ranked in scan.ranked.items()
        for column, tensor in zip(Ranked._fields, ranked, strict=True)
    }
    files = {index: str(path.relative_to(folder)) for index, path in scan.files.items()}
    return tensors, {
        "files": json.dumps(files),
        "skipped": json.dumps(scan.skipped),
        "skipped_count": str(scan.skipped_count),
    }
