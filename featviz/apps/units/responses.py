"""Read a folder of photographs once: the responses of all units of a layer, an embedding, and the predicted classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.examples.examples import Examples
from featviz.apps.examples.scan import BATCH, Ranking, Scan, scan_of, strongest, tensors_of
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.embedding import last_layer, pool, uses_class_token
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import ImageBatch, SkippedFiles, folder_fingerprint, image_batches
from featviz.io import cache_folder, read_photograph, write_cached
from featviz.network import OUTPUT

MAX_SAMPLE = 10_000
"""Largest number of photographs whose responses are kept. Of more, a random sample of this size is."""


@dataclass(frozen=True, eq=False)
class Responses:
    """How all units of a layer respond to a folder of photographs.

    Statistics are computed from `names`, `values`, `features` and `predicted`, which are of a random sample of the
    photographs where there are more than `MAX_SAMPLE`. `examples` is of all photographs.

    Args:
        examples: The photographs with the highest and lowest responses.
        folder: The folder.
        names: Path of each photograph of the sample, relative to the folder.
        values: Largest activation of each unit over all positions.
        features: Embedding of each photograph by the network, relative to the mean.
        layer: Layer of the embedding.
        judged: Embedding by the judge, relative to the mean; the same as `features` without a judge.
        predicted: Index of the predicted class; empty for a network without classes.
    """

    examples: Examples
    folder: Path
    names: tuple[str, ...]
    values: Float[Tensor, "n units"]
    features: Float[Tensor, "n channels"]
    layer: str
    judged: Float[Tensor, "n features"]
    predicted: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of photographs of the sample."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class _Read:
    """Content of the cache for a folder; see `Responses`."""

    scan: Scan
    names: tuple[str, ...]
    tensors: dict[str, Tensor]


def read_responses(
    network: fv.Network,
    photographs: str | Path,
    layer: str,
    *,
    judge: fv.Network | None = None,
    top: int = 5,
    rest: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Responses:
    """Read the responses of all units of a layer, or the result of an earlier call from the cache.

    Args:
        network: The network.
        photographs: Folder of photographs, with all folders below it. Files that cannot be read are skipped.
        layer: Name of the layer; empty for the class logits.
        judge: Network whose embedding measures how alike photographs are; `None` for the network itself.
        top: Number of photographs with the highest activation per unit.
        rest: Number of photographs near the median, and number with the lowest activation.
        progress: Called after each batch with the number of files read and the number of files.

    Raises:
        OutputError: The folder is missing, or has no image that can be read.
        ModelError: An activation is NaN or infinite.
    """
    folder = Path(photographs)
    count, fingerprint = folder_fingerprint(folder, network.input)
    judges = None if judge is None else cache_key(judge)
    key = cache_key(network, fv.__version__, "responses", fingerprint, judges, layer, top, rest)
    file = cache_folder() / "responses" / f"{key}.safetensors"
    found = _read_cache(file, folder)
    if found is None:
        found = _read(network, judge, folder, layer, (top, rest), count, progress)
        _write_cache(file, found, folder)
    channels = tuple(range(found.tensors["values"].shape[1]))
    features = _relative(found.tensors["features"])
    return Responses(
        Examples(network, layer, channels, found.scan, key),
        folder,
        found.names,
        found.tensors["values"],
        features,
        _embedding_layer(network),
        features if judge is None else _relative(found.tensors["judged"]),
        tuple(found.tensors["predicted"].tolist()),
    )


def _read(
    network: fv.Network,
    judge: fv.Network | None,
    folder: Path,
    layer: str,
    kept: tuple[int, int],
    count: int,
    progress: Callable[[int, int], None] | None,
) -> _Read:
    """Read a folder of `count` images; see `read_responses`."""
    ranking, skipped = Ranking(*kept), SkippedFiles(folder)
    sample = _sample(count)
    names: list[str] = []
    rows: dict[str, list[Tensor]] = {"values": [], "features": [], "judged": [], "predicted": []}
    for batch in image_batches(
        folder, size=network.size, channels=network.channels, spec=network.input, batch=BATCH, skipped=skipped
    ):
        first = ranking.seen
        found, position = _pass(network, layer, batch)
        ranking.update(batch.files, found["values"], position)
        chosen = [i for i in range(len(batch.files)) if first + i in sample]
        names += [batch.files[i].relative_to(folder).as_posix() for i in chosen]
        if judge is not None:
            found["judged"] = _embed_by_judge(network, judge, batch)
        for name, values in found.items():
            rows[name].append(values[chosen])
        if progress:
            progress(min(count, batch.read), count)
    scan = ranking.scan(skipped)
    skipped.warn()
    tensors = {name: torch.cat(parts) if parts else torch.empty(0) for name, parts in rows.items()}
    return _Read(scan, tuple(names), tensors)


def _sample(count: int) -> range | frozenset[int]:
    """Return the indices of the photographs of the sample."""
    if count <= MAX_SAMPLE:
        return range(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return frozenset(order[:MAX_SAMPLE].tolist())


def _pass(network: fv.Network, layer: str, batch: ImageBatch) -> tuple[dict[str, Tensor], Int[Tensor, "n units"]]:
    """Run the network once, and return the rows of a batch and the positions of the largest activations."""
    embedding = _embedding_layer(network)
    has_classes = network.logits_layer is not None
    with torch.no_grad():
        acts = network.capture(batch.images, {layer, embedding, *([OUTPUT] if has_classes else [])})
        values, position = strongest(acts, layer)
        features = pool(acts, embedding, class_token=uses_class_token(network, embedding)).float().cpu()
        predicted = acts.logits().argmax(1).cpu() if has_classes else None
    values = values.float()
    check_finite(values, network, layer)
    check_finite(features, network, embedding)
    rows = {"values": values, "features": features}
    return rows if predicted is None else rows | {"predicted": predicted}, position


def _embed_by_judge(network: fv.Network, judge: fv.Network, batch: ImageBatch) -> Float[Tensor, "n features"]:
    """Return the embedding of photographs by a judge, which may need them at another size."""
    images = batch.images
    if (judge.size, judge.channels) != (network.size, network.channels):
        images = torch.stack([read_photograph(file, size=judge.size, channels=judge.channels) for file in batch.files])
    layer = _embedding_layer(judge)
    with torch.no_grad():
        acts = judge.capture(images, [layer])
        found = pool(acts, layer, class_token=uses_class_token(judge, layer)).float().cpu()
    return check_finite(found, judge, layer)


def _embedding_layer(network: fv.Network) -> str:
    """Return the layer whose activations embed a photograph; the output of a network that has no other."""
    try:
        return last_layer(network)
    except fv.AddressError:
        return OUTPUT


def _relative(vectors: Float[Tensor, "n features"]) -> Float[Tensor, "n features"]:
    """Subtract the mean. Else all cosines are near 1, since activations after a ReLU share a large mean."""
    return vectors - vectors.mean(0)


def _read_cache(file: Path, folder: Path) -> _Read | None:
    """Read a folder's responses from the cache; `None` where there are none or the file is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
            about = opened.metadata() or {}
        names = tuple(json.loads(about["names"]))
        kept = {name: tensors[name] for name in ("values", "features", "judged", "predicted")}
        found = _Read(scan_of(tensors, about, folder), names, kept)
        return found if len(names) == len(kept["values"]) else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write_cache(file: Path, found: _Read, folder: Path) -> None:
    from safetensors.torch import save

    tensors, about = tensors_of(found.scan, folder)
    tensors |= {name: tensor.contiguous() for name, tensor in found.tensors.items()}
    write_cached(file, save(tensors, metadata=about | {"names": json.dumps(found.names)}))
