"""A folder gone through once: for every unit of a layer, what excites it most, middling and least; and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.io import cache_folder, images_in, read_photographs, write

SAMPLE = 512
"""Photographs, drawn by lot, among which those in the middle are looked for."""
BATCH = 32
"""Photographs that the network sees at once."""
NAMED = 100
"""So many files that could not be read are named."""
WAITING = 4096
"""So many names of files are kept before those that nothing speaks of any more are dropped."""
PARTS = ("top", "middle", "bottom")
WHAT = ("number", "response", "place")


@dataclass(frozen=True, eq=False)
class Scan:
    """What a folder holds for the units of a layer.

    Args:
        found: for each of `PARTS` the numbers of photographs, their responses and the places there.
        files: the photographs, by number.
        skipped: the first few files that could not be read, below the folder, and why.
        unread: how many there were in all.
    """

    found: Mapping[str, tuple[Int[Tensor, "k channel"], Float[Tensor, "k channel"], Int[Tensor, "k channel"]]]
    files: Mapping[int, Path]
    skipped: Mapping[str, str]
    unread: int = 0


class Skipped:
    """Files that could not be read: how many, and the first few of them.

    Args:
        folder: that they lie in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.first: dict[str, str] = {}

    def __call__(self, file: Path, why: str) -> None:
        """Take note of one."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first[str(file.relative_to(self.folder))] = why

    def nothing(self) -> fv.OutputError:
        """Say that none could be read."""
        why = next(iter(self.first.values()), "the folder has changed")
        return fv.OutputError(f"none of the {self.count} images in {self.folder} can be read; the first: {why}")


class Best:
    """The strongest so many of what is shown to it, for each unit.

    Args:
        count: how many.
        sign: -1 keeps the weakest.
    """

    def __init__(self, count: int, sign: int = 1) -> None:
        self.count, self.sign = count, sign
        self.parts: tuple[Tensor, ...] = ()

    def forward(self, *parts: Tensor) -> None:
        """Look at further photographs: numbers, what they are ranked by, and more, each (photographs, channels)."""
        parts = tuple(map(torch.cat, zip(self.parts, parts, strict=True))) if self.parts else parts
        kept = (self.sign * parts[1]).topk(min(self.count, len(parts[1])), dim=0).indices
        self.parts = tuple(part.gather(0, kept) for part in parts)


def scanned(
    network: fv.Network,
    folder: Path,
    layer: str,
    top: int,
    rest: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[str, Scan]:
    """Go through a folder, or remember what was found in it before.

    Returns:
        What names the folder, the network and the layer; and what was found.

    Raises:
        OutputError: the folder is missing, or holds no image that can be read.
    """
    count, fingerprint = folder_fingerprint(folder)
    facts = [fingerprint, network.fingerprint, asdict(network.input)]
    key = hashlib.sha256(json.dumps([fv.__version__, *facts, layer, top, rest]).encode()).hexdigest()[:16]
    file = cache_folder() / "examples" / f"{key}.safetensors"
    known = _remembered(file, folder)
    if known is None:
        known = _scan(network, folder, layer, top, rest, count, progress)
        _remember(file, known, folder)
    return key, known


def _scan(
    network: fv.Network,
    folder: Path,
    layer: str,
    top: int,
    rest: int,
    count: int,
    progress: Callable[[int, int], None] | None,
) -> Scan:
    best, worst, lot = Best(top), Best(rest, -1), Best(SAMPLE)
    files: dict[int, Path] = {}
    skipped = Skipped(folder)
    chance = torch.Generator().manual_seed(0)
    seen = 0
    for names, images in _batches(network, folder, skipped):
        with torch.no_grad():
            units = network.capture(images, [layer]).channels_first(layer).cpu()
        strongest, place = units.unsqueeze(-1).flatten(2).max(2)
        number = torch.arange(seen, seen + len(names))[:, None].expand_as(place)
        files |= dict(enumerate(names, seen))
        seen += len(names)
        best.forward(number, strongest, place)
        worst.forward(number, strongest, place)
        lot.forward(number, torch.rand(len(names), 1, generator=chance).expand_as(strongest), place, strongest)
        if len(files) > WAITING + 2 * SAMPLE:
            files = _spoken_of(files, [one.parts[0] for one in (best, worst, lot)])
        if progress:
            progress(min(count, seen + skipped.count), count)
    if not seen:
        raise skipped.nothing()
    number, _, place, strongest = lot.parts
    far = (strongest - strongest.median(0).values).abs()
    near = far.topk(min(rest, len(far)), dim=0, largest=False).indices
    middle = tuple(part.gather(0, near) for part in (number, strongest, place))
    found = {"top": best.parts, "middle": middle, "bottom": worst.parts}
    return Scan(found, _spoken_of(files, [parts[0] for parts in found.values()]), skipped.first, skipped.count)  # type: ignore[arg-type]


def _spoken_of(files: Mapping[int, Path], numbers: Sequence[Tensor]) -> dict[int, Path]:
    """Keep the names that are still needed: there are far fewer of them than of all."""
    wanted = {number for some in numbers for number in some.unique().tolist()}
    return {number: file for number, file in files.items() if number in wanted}


def _batches(network: fv.Network, folder: Path, skipped: Skipped) -> Iterator[tuple[list[Path], Tensor]]:
    files: list[Path] = []
    images: list[Tensor] = []
    for file, image in read_photographs(folder, size=network.size, channels=network.channels, skipped=skipped):
        files.append(file)
        images.append(image)
        if len(images) == BATCH:
            yield files, torch.stack(images)
            files, images = [], []
    if images:
        yield files, torch.stack(images)


def folder_fingerprint(folder: Path) -> tuple[int, str]:
    """Count a folder's images, and hash their names, sizes and times."""
    digest, count = hashlib.sha256(), 0
    for file in images_in(folder):
        try:
            facts = file.stat()
            told = f"{facts.st_size}\0{facts.st_mtime_ns}"
        except OSError:  # it is gone, or leads nowhere
            told = "?"
        digest.update(f"{file.relative_to(folder)}\0{told}\n".encode(errors="surrogateescape"))
        count += 1
    return count, digest.hexdigest()


def _remembered(file: Path, folder: Path) -> Scan | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            about: dict[str, Any] = opened.metadata() or {}
            found = {part: tuple(opened.get_tensor(f"{part}.{what}") for what in WHAT) for part in PARTS}
        files = {int(number): folder / name for number, name in json.loads(about["files"]).items()}
        return Scan(found, files, json.loads(about["skipped"]), int(about["unread"]))  # type: ignore[arg-type]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _remember(file: Path, scan: Scan, folder: Path) -> None:
    from safetensors.torch import save

    tensors = {
        f"{part}.{what}": tensor.contiguous()
        for part, three in scan.found.items()
        for what, tensor in zip(WHAT, three, strict=True)
    }
    files = {number: str(path.relative_to(folder)) for number, path in scan.files.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"files": json.dumps(files), "skipped": json.dumps(scan.skipped), "unread": str(scan.unread)}
        write(file, save(tensors, metadata=about))
    except (OSError, fv.OutputError):  # then it will be found out again
        return
