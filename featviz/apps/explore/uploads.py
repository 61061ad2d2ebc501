"""Photographs that a page sends, kept in the store as decoded images under names of the server."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.explore.requests import IDS, RequestError
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.judging.predictions import predict
from featviz.errors import FeatvizError
from featviz.interfaces import Size
from featviz.io import Store, decode_image, encode, middle, open_image, read_image, resize, to_bytes

MAX_UPLOAD = 20 * 2**20
"""Largest number of bytes of a file."""
MAX_PIXELS = 50_000_000
"""Largest number of pixels of an image."""
MAX_SIDE = 768
"""Longer side in px to which larger images are reduced: dreams of larger ones take minutes on a CPU."""
MAX_UPLOADS = 100
"""Number of photographs to keep; the oldest ones are deleted."""
FOLDER = "uploads"
PREDICTIONS = 5
"""Number of most likely classes that are shown."""


class Uploads:
    """Photographs of the pages, by id.

    Args:
        network: The network.
        store: Where they are kept.
    """

    def __init__(self, network: fv.Network, store: Store) -> None:
        self._network, self._store = network, store
        folder = None if store.path is None else store.path / FOLDER
        files = store.names(FOLDER) if folder is None else sorted(store.names(FOLDER), key=partial(_written_at, folder))
        names = [name.removesuffix(".png") for name in files]
        self._known: OrderedDict[str, None] = OrderedDict.fromkeys(name for name in names if IDS.fullmatch(name))
        self._lock = Lock()

    def add(self, data: bytes) -> str:
        """Decode a photograph, and keep it. One is decoded at a time, so that memory is bounded.

        Args:
            data: Content of an image file.

        Returns:
            Its id.

        Raises:
            OutputError: `data` is no image, or too large.
        """
        with self._lock:
            image = torch.from_numpy(decode_image(data, self._file_channels, max_pixels=MAX_PIXELS))
            scale = MAX_SIDE / max(image.shape[1:])
            if scale < 1:
                height, width = (max(1, round(scale * side)) for side in image.shape[1:])
                image = resize(image[None], (height, width))[0].clamp(0, 1)
            pixels = to_bytes(image.numpy())
            name = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
            if name not in self._known:
                self._store.write(f"{FOLDER}/{name}.png", encode(pixels, ".png"))
            self._known[name] = None
            self._known.move_to_end(name)
            while len(self._known) > MAX_UPLOADS:
                self._store.remove(f"{FOLDER}/{self._known.popitem(last=False)[0]}.png")
            return name

    @property
    def _file_channels(self) -> int:
        return 1 if self._network.channels == 1 else 3

    def path(self, name: str) -> Path:
        """Return the file of a photograph.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        if name not in self._known or self._store.path is None:
            raise RequestError("there is no such photograph any more; drop it again", 404)
        return self._store.path / FOLDER / f"{name}.png"

    def size(self, name: str) -> Size:
        """Return the height and width of a photograph in px.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        with open_image(self.path(name)) as image:
            return image.height, image.width

    def cropped(self, name: str, size: Size) -> Tensor:
        """Return the middle of a photograph at a size, (c, h, w) in [0, 1].

        Args:
            name: Its id.
            size: Height and width in px.

        Raises:
            RequestError: There is none.
        """
        image = torch.from_numpy(read_image(self.path(name), self._network.channels))
        return middle(image, self._network.channels, size).clamp(0, 1)

    def predictions(self, name: str) -> list[dict[str, Any]]:
        """Return the most likely classes of a photograph; none for a network without class probabilities.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        path = self.path(name)
        try:
            probabilities = predict(self._network, as_images(self._network, str(path)))[0]
        except FeatvizError:
            return []
        top = probabilities.topk(min(PREDICTIONS, len(probabilities)))
        classes = self._network.classes
        return [
            {"index": i, "name": classes[i] if i < len(classes) else str(i), "probability": round(p, 4)}
            for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]


def _written_at(folder: Path, name: str) -> float:
    """Return when a file was written; 0 if it is gone."""
    try:
        return (folder / name).stat().st_mtime
    except OSError:
        return 0.0
