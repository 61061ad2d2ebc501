"""Services behind the explorer's routes, for one network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.explore.about import about, bounds_of
from featviz.apps.explore.board import Board
from featviz.apps.explore.complete import Completer
from featviz.apps.explore.events import Hub
from featviz.apps.explore.facts import facts_of
from featviz.apps.explore.images import Images, check_objective
from featviz.apps.explore.photographs import MAPS_FOLDER, Photographs
from featviz.apps.explore.requests import RequestError
from featviz.apps.explore.units import Units
from featviz.apps.explore.uploads import Uploads
from featviz.apps.explore.worker import Job, Worker
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.errors import AddressError, FeatvizError, first_line, kind_and_line
from featviz.interfaces import Size
from featviz.io import Store
from featviz.objectives import Objective


class Services:
    """Everything that answers and works for the pages of one network.

    Args:
        network: The network.
        store: Folder of all results.
        photographs: Folder of photographs for the units; `None` for none.
        size: Height and width in px with which pages start; `None` for the network's input size.
    """

    def __init__(self, network: fv.Network, store: Store, photographs: Path | None, size: Size | None) -> None:
        self.network, self.store = network, store
        self.about: dict[str, Any] = about(network, store, size, has_photographs=photographs is not None)
        self.bounds = bounds_of(network)
        self.worker = Worker(lambda job: self.images.batch_size(job), self._failed)
        self.hub = Hub(self.worker.cancel)
        self.uploads = Uploads(network, store)
        self.images = Images(network, store, self.hub, self.uploads)
        self.photographs = Photographs(network, store, self.hub, self.uploads)
        self.units = Units(network, store, self.hub, self.worker, photographs)
        self.completer = Completer(network)
        self.board = Board(network, store)

    def image_bytes(self, name: str) -> bytes:
        """Return an image, or a map over a photograph.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        for file in (image_file(name), f"{MAPS_FOLDER}/{name}.png"):
            try:
                return self.store.read(file)
            except FeatvizError:
                continue
        raise RequestError("there is no such image", 404)

    def image_facts(self, name: str) -> dict[str, Any]:
        """Return what is known about an image: what it shows, its scores, and how to render it again.

        Args:
            name: Its id.

        Raises:
            RequestError: There is none.
        """
        return facts_of(self.network, name, self.image_bytes(name), self.images.seconds(name))

    def check(self, objective: Objective, text: str) -> None:
        """Check that the network has what an objective names.

        Args:
            objective: The objective.
            text: What was typed.

        Raises:
            RequestError: There is no such layer, channel or class; with the column of the name at fault, if known.
        """
        try:
            for layer in objective.layers:
                try:
                    self.network.layer(layer)
                except AddressError as error:
                    where = text.find(layer) if layer else -1
                    raise RequestError(first_line(error), position=where if where >= 0 else None) from error
            check_objective(self.network, objective)
        except FeatvizError as error:
            raise RequestError(first_line(error), position=0) from error

    def _failed(self, jobs: list[Job], error: Exception) -> None:
        """Tell pages why their jobs ended."""
        is_known = isinstance(error, FeatvizError | RequestError)
        text = first_line(error) if is_known else kind_and_line(error)
        for job in jobs:
            self.hub.send(job.pages, "failed", {"id": job.id, "error": text})
