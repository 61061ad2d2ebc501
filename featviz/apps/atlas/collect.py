"""Activations from random places of photographs, kept in files, so that any number fits and none is collected twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import featviz as fv
from featviz.apps.explain.scan import folder_fingerprint
from featviz.io import images_in, read_photograph, write

BATCH = 16
"""Photographs that the network sees at once."""
CLASSES = 3
"""So many of a photograph's likeliest classes are followed back to the place."""
NOTED = 64
"""After so many photographs it is noted how far it has come."""


@dataclass(frozen=True)
class Collected:
    """Activations of a layer, one in a row.

    Args:
        folder: where the files are.
        rows: how many.
        photographs: how many they are from.
        channels: numbers in a row.
        classes: classes that are told of each; 0 where the network has none.
    """

    folder: Path
    rows: int
    photographs: int
    channels: int
    classes: int

    @property
    def vectors(self) -> np.ndarray:
        """The activations, (rows, channels), on the disk."""
        return self._open("vectors", np.float16, self.channels)

    @property
    def labels(self) -> np.ndarray:
        """The likeliest classes of each row's photograph, (rows, classes), the likeliest first."""
        return self._open("labels", np.int32, self.classes)

    @property
    def shares(self) -> np.ndarray:
        """What the row adds to the logits of these, (rows, classes)."""
        return self._open("shares", np.float32, self.classes)

    @property
    def numbers(self) -> np.ndarray:
        """The number of each row's photograph, (rows, 1)."""
        return self._open("numbers", np.int32, 1)

    @cached_property
    def files(self) -> list[str]:
        """The photographs by number, below their folder."""
        lines = (self.folder / "files.txt").read_text(encoding="utf-8").split("\n")[: self.photographs]
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
    each: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Collected:
    """Go through a folder, and note the activations of random places; what is noted already is not asked for again.

    A folder that has changed is gone through anew.

    Args:
        network: what looks.
        photographs: the folder.
        layer: whose activations.
        output: where the files are kept.
        each: places of a photograph.
        seed: of the places.
        progress: called now and then with the photographs seen and those in all.

    Raises:
        AddressError: there is no such layer, or it has no places.
        OutputError: the folder is missing, holds no image that can be read, or cannot be written to.
    """
    count, folder_state = folder_fingerprint(photographs)
    expects = [network.fingerprint, *vars(network.input).values()]
    wanted = [*expects, layer, each, seed, str(photographs.resolve()), folder_state]
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    folder = output / f"{key}"
    state = folder / "state.json"
    blank = torch.full((1, network.channels, *network.size), 0.5)
    channels = network.capture(blank, [layer]).places(layer).shape[1]
    head = network.table.get("") if "" in network.heads else None
    classes = min(CLASSES, head.channels) if head and head.layout.kind == "vector" else 0
    done = json.loads(state.read_text()) if state.is_file() else {"seen": 0, "rows": 0, "photographs": 0}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _trim(folder, done, channels, classes)
        seen_before = done["seen"]
        for names, images, seen in _batches(network, photographs, done["seen"]):
            rows = _look(network, layer, classes, images, each, seed, done["photographs"])
            with (folder / "files.txt").open("a", encoding="utf-8") as listed:
                listed.writelines(f"{json.dumps(str(name.relative_to(photographs)))}\n" for name in names)
            for name, values in rows.items():
                with (folder / f"{name}.bin").open("ab") as file:
                    file.write(values.tobytes())
            done["seen"], done["rows"] = seen, done["rows"] + len(rows["numbers"])
            done["photographs"] += len(names)
            if done["photographs"] % NOTED < BATCH or seen == count:
                write(state, json.dumps(done).encode())
            if progress:
                progress(seen, count)
        if progress and seen_before < count > done["seen"]:
            progress(count, count)  # the last ones could not be read
        done["seen"] = count
        write(state, json.dumps(done).encode())
    except OSError as error:
        raise fv.OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    if not done["rows"]:
        raise fv.OutputError(f"none of the {count} images in {photographs} can be read")
    return Collected(folder, done["rows"], done["photographs"], channels, classes)


def _trim(folder: Path, done: dict[str, int], channels: int, classes: int) -> None:
    """Cut off what was written after it was last noted how far it had come."""
    for name, width in (("vectors", 2 * channels), ("labels", 4 * classes), ("shares", 4 * classes), ("numbers", 4)):
        with (folder / f"{name}.bin").open("ab") as file:
            file.truncate(width * done["rows"])
    listed = folder / "files.txt"
    names = listed.read_text(encoding="utf-8").split("\n")[: done["photographs"]] if listed.is_file() else []
    listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _batches(network: fv.Network, photographs: Path, seen: int) -> Iterator[tuple[list[Path], Tensor, int]]:
    """Read photographs from a number on, a few at a time; those that cannot be read are counted, and left out."""
    names: list[Path] = []
    images: list[Tensor] = []
    for number, file in enumerate(images_in(photographs)):
        if number < seen:
            continue
        try:
            images.append(read_photograph(file, size=network.size, channels=network.channels))
            names.append(file)
        except fv.FeatvizError:
            continue
        finally:
            seen = number + 1
        if len(images) == BATCH:
            yield names, torch.stack(images), seen
            names, images = [], []
    if images:
        yield names, torch.stack(images), seen


def _look(
    network: fv.Network, layer: str, classes: int, images: Tensor, each: int, seed: int, first: int
) -> dict[str, np.ndarray]:
    """Return the rows of some photographs."""
    with network.session([layer, *([""] if classes else [])]) as forward, torch.enable_grad():
        acts = forward(images.to(network.device).requires_grad_())
        maps = acts.places(layer)
        places = _places(len(images), maps.shape[2] * maps.shape[3], each, seed, first).to(maps.device)
        vectors = maps.detach().flatten(2).gather(2, places[:, None].expand(-1, maps.shape[1], -1))
        labels, shares = [], []
        top = acts.logits().topk(classes) if classes else None
        for k in range(classes):
            assert top is not None
            (back,) = torch.autograd.grad(
                top.values[:, k].sum(), acts[layer], retain_graph=k + 1 < classes, allow_unused=True
            )
            back = torch.zeros_like(acts[layer]) if back is None else back
            gradient = acts.replaced({layer: back}).places(layer).flatten(2)
            gradient = gradient.gather(2, places[:, None].expand(-1, maps.shape[1], -1))
            shares.append((gradient * vectors).sum(1))
            labels.append(top.indices[:, k : k + 1].expand(-1, places.shape[1]))
    rows = vectors.transpose(1, 2).flatten(0, 1).cpu().numpy().clip(-6e4, 6e4)  # half precision ends there
    numbers = np.repeat(np.arange(first, first + len(images)), places.shape[1])[:, None]
    told = [torch.stack(some, -1).flatten(0, 1).cpu().numpy() if some else rows[:, :0] for some in (labels, shares)]
    return {
        "vectors": rows.astype(np.float16),
        "labels": told[0].astype(np.int32),
        "shares": told[1].astype(np.float32),
        "numbers": numbers.astype(np.int32),
    }


def _places(count: int, total: int, each: int, seed: int, first: int) -> Tensor:
    """Draw places for each photograph, by its number alone, so that it does not matter where a run was stopped."""
    drawn = []
    for number in range(first, first + count):
        chance = torch.Generator().manual_seed(seed * 1_000_003 + number)
        drawn.append(torch.randperm(total, generator=chance)[:each])
    return torch.stack(drawn)
