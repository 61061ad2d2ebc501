"""The card of a unit: its objectives, photographs that activate it, and the units that it is connected to."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.explore.events import Hub
from featviz.apps.explore.requests import COMPARED, RequestError
from featviz.apps.explore.worker import VISIBLE, Job, Worker
from featviz.apps.gallery.crops import write_crops
from featviz.apps.shared.arguments.classes import class_title
from featviz.apps.shared.arguments.unit_lookup import objective_of
from featviz.apps.shared.operations.connections import Connections
from featviz.apps.shared.rendering.diverse import diverse_objective
from featviz.errors import AddressError, FeatvizError, first_line
from featviz.io import Store
from featviz.network import OUTPUT

MOST_CONNECTED = 8
"""Number of units of each sign that a card lists."""
MAX_CROPS = 10_000
"""Number of crops whose address is remembered."""


class Units:
    """Facts about units. All methods but `crop_bytes` run in the worker's thread.

    Args:
        network: The network.
        store: Where crops of photographs are kept.
        hub: Where the end of a scan of photographs is reported.
        worker: Scans the photographs.
        photographs: Folder of photographs; `None` for none.
    """

    def __init__(self, network: fv.Network, store: Store, hub: Hub, worker: Worker, photographs: Path | None) -> None:
        self._network, self._store, self._hub, self._worker = network, store, hub, worker
        self._folder = photographs
        self._scanned: set[str] = set()
        self._problems: dict[str, str] = {}
        self._crops: OrderedDict[str, str] = OrderedDict()

    @cached_property
    def _connections(self) -> Connections | None:
        """The connections; `None` for a network that does not run outside of a session."""
        try:
            return Connections(self._network)
        except Exception:  # a card without connections is better than none
            return None

    def card(self, layer: str, channel: int, page: str | None) -> dict[str, Any]:
        """Return the card of a unit.

        Args:
            layer: Name of the layer, or `"logit"` for the classes.
            channel: Index of the channel or class.
            page: The page that asks, for which photographs are scanned; `None` for all pages.

        Raises:
            RequestError: There is no such unit.
        """
        name = OUTPUT if layer == "logit" else layer
        try:
            row = self._network.layer(name)
        except AddressError as error:
            raise RequestError(first_line(error), 404) from error
        if channel >= row.channels:
            raise RequestError(f"{layer} has channels 0…{row.channels - 1}, got {channel}", 404)
        photographs, state = self._photographs(name, channel, page)
        return {
            "layer": layer,
            "channel": channel,
            "address": str(objective_of(name, channel)),
            "title": class_title(self._network, channel) if name == OUTPUT else str(objective_of(name, channel)),
            "objectives": objectives_of(name, channel),
            "photographs": photographs,
            "photographs_state": state,
            "photographs_problem": self._problems.get(name),
            **self._connected(name, channel),
        }

    def crop_bytes(self, name: str) -> bytes:
        """Return a crop of a photograph, or a small copy of one.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        file = self._crops.get(name)
        if file is None:
            raise RequestError("there is no such photograph", 404)
        return self._store.read(file)

    # ------------------------------------------------------------------------------------------ photographs

    def _photographs(self, layer: str, channel: int, page: str | None) -> tuple[list[dict[str, Any]] | None, str]:
        """Return the photographs of a unit and `"done"`; or `None` and why there are none yet."""
        if self._folder is None:
            return None, "none"
        if layer in self._problems:
            return None, "failed"
        if layer in self._scanned:
            return self._found(layer, channel), "done"
        pages = set(self._hub.pages) if page is None else {page}
        name = hashlib.sha256(f"scan {layer}".encode()).hexdigest()[:16]
        self._worker.add([Job(name, self._scan, VISIBLE, None, layer, pages)])
        return None, "queued"

    def _scan(self, jobs: list[Job], between_steps: Callable[[], None]) -> None:
        """Find the photographs that activate the channels of a layer most."""
        (job,) = jobs
        layer = job.detail

        def tell(done: int, total: int) -> None:
            between_steps()
            self._hub.send(job.pages, "scan", {"layer": layer or "logit", "done": done, "total": total})

        try:
            fv.examples(self._network, str(self._folder), layer or "logit", [0], progress=tell)
            self._scanned.add(layer)
        except FeatvizError as error:
            self._problems[layer] = first_line(error)
        self._hub.send(job.pages, "unit", {"layer": layer or "logit"})

    def _found(self, layer: str, channel: int) -> list[dict[str, Any]]:
        """Return the photographs with the highest activation of a unit. Their scan is in the cache."""
        examples = fv.examples(self._network, str(self._folder), layer or "logit", [channel], progress=None)
        crops = [crop for crop in write_crops(self._store, self._network, examples)[channel] if crop.whole]
        return [
            {
                "url": self._crop_url(crop.file),
                "whole": self._crop_url(crop.whole),
                "score": place.activation,
                "box": list(crop.box),
                "ratio": crop.ratio,
                "file": place.file.name,
            }
            for crop, place in zip(crops, examples.places(channel), strict=True)
        ]

    def _crop_url(self, file: str) -> str:
        name = hashlib.sha256(file.encode()).hexdigest()[:16]
        self._crops[name] = file
        while len(self._crops) > MAX_CROPS:
            self._crops.popitem(last=False)
        return f"./crops/{name}.webp"

    # ------------------------------------------------------------------------------------------ connections

    def _connected(self, layer: str, channel: int) -> dict[str, Any]:
        """Return the units that the weights connect most strongly, of each sign."""
        if self._connections is None:
            return {"inputs": [], "outputs": []}
        found = {
            "inputs": self._connections.inputs(layer, channel),
            "outputs": self._connections.outputs(layer, channel),
        }
        return {
            kind: [
                {"layer": name, "channel": k, "address": str(objective_of(name, k)), "weight": float(f"{weight:.4g}")}
                for name, k, weight in strongest(units)
            ]
            for kind, units in found.items()
        }


def objectives_of(layer: str, channel: int) -> dict[str, Any]:
    """Return what a card shows of a unit, as `wanted` images: the unit, its negative, and images that differ.

    Args:
        layer: Name of the layer; empty for the class logits.
        channel: Index of the channel or class.
    """
    unit = objective_of(layer, channel)
    compared = str(diverse_objective(unit, layer)) if layer else ""
    return {
        "picture": str(unit),
        "negative": str(-unit),
        "diverse": [{"objective": compared, "index": i} for i in range(COMPARED)] if compared else [],
    }


def strongest(units: list[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
    """Return the units with the largest weights and those with the lowest ones, the largest first.

    >>> strongest([("a", 0, -1.0), ("a", 1, 2.0), ("a", 2, 0.0)])
    [('a', 1, 2.0), ('a', 0, -1.0)]
    """
    ordered = sorted(units, key=lambda unit: -unit[2])
    positive = [unit for unit in ordered if unit[2] > 0][:MOST_CONNECTED]
    negative = [unit for unit in ordered if unit[2] < 0][-MOST_CONNECTED:]
    return positive + negative
