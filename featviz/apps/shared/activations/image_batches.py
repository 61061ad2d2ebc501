"""Read a folder of photographs in batches of equal size, skipping files that cannot be read; hash a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.apps.shared.arguments.inputs import inputs_in, read_input
from featviz.errors import FeatvizError, OutputError, pluralize, warn
from featviz.interfaces import Size
from featviz.io import images_in, read_photograph
from featviz.network import InputSpec

MAX_LISTED = 100
"""Number of unreadable files that are listed by name."""


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Photographs that are processed together.

    Args:
        files: Their paths.
        images: In [0, 1], (n, c, h, w), or `(n, c, *size)` for signals and volumes.
        read: Number of files read or skipped up to the end of this batch; for the last batch, the number of files in
            the folder.
    """

    files: list[Path]
    images: Float[Tensor, "n c *size"]
    read: int


class SkippedFiles:
    """Counts the files of a folder that could not be read, and keeps the reason for the first of them.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.first: dict[str, str] = {}

    def __call__(self, file: Path, reason: str) -> None:
        """Record a file."""
        self.count += 1
        if len(self.first) < MAX_LISTED:
            self.first[str(file.relative_to(self.folder))] = reason

    def warn(self) -> None:
        """Warn if files were skipped, with the reason for the first of them."""
        if self.count:
            reason = next(iter(self.first.values()))
            warn(f"skipped {pluralize(self.count, 'file')} in {self.folder} that cannot be used; the first: {reason}")

    def error(self) -> OutputError:
        """Return the error for a folder in which no file could be read."""
        reason = next(iter(self.first.values()), "the folder has changed")
        return OutputError(f"none of the {self.count} images in {self.folder} can be read; the first: {reason}")


def image_batches(
    folder: str | Path,
    *,
    size: Size,
    channels: int,
    batch: int,
    skipped: Callable[[Path, str], None] | None = None,
    first: int = 0,
    spec: InputSpec | None = None,
) -> Iterator[ImageBatch]:
    """Read a folder of photographs, and all folders below it, in batches.

    Args:
        folder: The folder.
        size: Height and width in px to which each photograph is cropped and resized.
        channels: Number of channels of the images.
        batch: Number of images per batch; the last batch may have fewer.
        skipped: Called with each file that cannot be read, and the reason; `None` to raise the error instead.
        first: Number of files to leave out, for a run that was interrupted.
        spec: Input specification of the network, in place of `size` and `channels` for signals and volumes; `None` for
            photographs.

    Raises:
        OutputError: The folder is missing or has no image, or a file cannot be read and `skipped` is `None`.
        SettingError: An image has other channels.
    """
    files: list[Path] = []
    images: list[Tensor] = []
    read = first
    found = images_in(folder) if spec is None else inputs_in(folder, spec)
    for read, file in enumerate(islice(found, first, None), first + 1):
        try:
            image = read_photograph(file, size=size, channels=channels) if spec is None else read_input(file, spec)
        except FeatvizError as error:
            if skipped is None:
                raise
            skipped(file, str(error))
            continue
        if len(images) == batch:  # only now, so that the last batch counts files after it that cannot be read
            yield ImageBatch(files, torch.stack(images), read - 1)
            files, images = [], []
        files.append(file)
        images.append(image)
    if images:
        yield ImageBatch(files, torch.stack(images), read)


def folder_fingerprint(folder: Path, spec: InputSpec | None = None) -> tuple[int, str]:
    """Return the number of images in a folder, and a hash of their names, sizes and modification times.

    Args:
        folder: The folder, with all folders below it.
        spec: As for `image_batches`.

    Raises:
        OutputError: The folder is missing or has no image.
    """
    digest, count = hashlib.sha256(), 0
    for file in images_in(folder) if spec is None else inputs_in(folder, spec):
        try:
            facts = file.stat()
            state = f"{facts.st_size}\0{facts.st_mtime_ns}"
        except OSError:  # deleted meanwhile, or a broken link
            state = "?"
        digest.update(f"{file.relative_to(folder)}\0{state}\n".encode(errors="surrogateescape"))
        count += 1
    return count, digest.hexdigest()
