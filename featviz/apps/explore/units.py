"""The card of a unit: its objectives, photographs that activate it, and the units that it is connected to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.explore.events import Hub
from featviz.apps.explore.requests import RequestError
from featviz.apps.explore.worker import Worker
from featviz.apps.gallery.gallery import DIVERSITY_WEIGHT
from featviz.io import Store
from featviz.network import OUTPUT


class Units:
    def __init__(self, network: fv.Network, store: Store, hub: Hub, worker: Worker, photographs: Path | None) -> None:
        self._network = network

    def card(self, layer: str, channel: int, page: str | None) -> dict[str, Any]:
        name = OUTPUT if layer == "logit" else layer
        row = self._network.layer(name)
        if channel >= row.channels:
            raise RequestError(f"channel must be below {row.channels}, got {channel}", 404)
        unit = fv.objectives.Logit(channel) if name == OUTPUT else fv.objectives.Channel(name, channel)
        objectives = {"picture": str(unit), "negative": str(-unit), "diverse": []}
        if name != OUTPUT:
            diverse = str(unit + DIVERSITY_WEIGHT * fv.objectives.Diversity(name))
            objectives["diverse"] = [{"objective": diverse, "index": i} for i in range(4)]
        return {"layer": layer, "channel": channel, "address": str(unit), "objectives": objectives,
                "photographs": None, "inputs": [], "outputs": []}

    def crop_bytes(self, name: str) -> bytes:
        raise RequestError("there is no such photograph", 404)
