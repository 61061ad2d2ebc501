"""Actions of the explorer on a photograph: dream, explain, decompose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import featviz as fv
from featviz.apps.explore.events import Hub
from featviz.apps.explore.images import Planned, StepProgress, image_url
from featviz.apps.explore.requests import RequestError
from featviz.apps.explore.uploads import Uploads
from featviz.apps.explore.worker import LIVE, Job
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.arguments.probe import check_positions
from featviz.apps.shared.rendering.backends import render_batch
from featviz.apps.shared.rendering.batch import Batch, Outcome
from featviz.apps.shared.rendering.stored_images import IMAGES_FOLDER, THUMBNAILS_FOLDER, rendered_names, write_image
from featviz.io import EXPLAINED_KEY, Store, encode, open_image
from featviz.objectives import Objective

MAPS_FOLDER, BLOCKS_FOLDER = "maps", "blocks"
"""Folders of the store for attribution maps, and for the pages of building blocks."""
BLOCKS: Mapping[str, Any] = {"cells": 5, "groups": 4, "steps": 96}
"""Settings of `fv.blocks`: few icons of few steps, since each takes a third of a second on a CPU."""
BLOCKS_SIDE = 96
"""Largest side of its icons in px."""
BLOCKS_ENDINGS = (".html", ".png", ".webp")
"""Endings of the files of its pages."""


class Photographs:
    """Plans and does what pages ask about photographs. All methods but `blocks_file` run in the worker's thread.

    Args:
        network: The network.
        store: Where the results are.
        hub: Where progress is reported.
        uploads: The photographs.
    """

    def __init__(self, network: fv.Network, store: Store, hub: Hub, uploads: Uploads) -> None:
        self._network, self._store, self._hub, self._uploads = network, store, hub, uploads
        self._on_cpu = network.device.type != "cuda"

    # ------------------------------------------------------------------------------------------ dream

    def dream(
        self, upload: str, objective: Objective | None, page: str, *, seed: int, live: bool, **settings: Any
    ) -> Planned:
        """Plan a dream.

        Args:
            upload: Id of the photograph.
            objective: What to maximise; `None` for a layer at two thirds of the network's depth.
            page: The page that asks.
            seed: Seed of the random shifts.
            live: Whether to send previews during the render.
            settings: Further settings of `fv.dream`.

        Raises:
            FeatvizError: It cannot be rendered.
        """
        execution = fv.Execution("float32") if self._on_cpu else fv.Execution()
        photograph = str(self._uploads.path(upload))
        dream = partial(fv.dream, self._network, photograph, objective, seed=seed, execution=execution, **settings)
        start = dream(until=0, progress=None)
        name = replace(start.recipe, until=None).hash
        if rendered_names(self._store, [name]):
            return Planned(name)
        return Planned(name, Job(name, self._run_dream, LIVE, None, dream, {page}, live))

    def _run_dream(self, jobs: list[Job], between_steps: Callable[[], None]) -> None:
        (job,) = jobs
        rendering = job.detail(progress=StepProgress(jobs, between_steps, self._hub))
        if rendering.recipe.until is not None:
            raise KeyboardInterrupt
        write_image(rendering, job.id, self._store)
        score = rendering.history[-1, 0].item()
        self._hub.send(job.pages, "done", {"id": job.id, "url": image_url(job.id), "score": score})

    # ------------------------------------------------------------------------------------------ explain

    def explain(self, upload: str, objective: Objective | None, method: str, page: str) -> Planned:
        """Plan a map of what in a photograph contributes to a score.

        Args:
            upload: Id of the photograph.
            objective: The score; `None` for the most likely class.
            method: Name of the method.
            page: The page that asks.

        Raises:
            RequestError: There is no such photograph.
        """
        self._uploads.path(upload)
        name = self._hash("explain", upload, repr(objective), method)
        known = self._store.read_json(f"{MAPS_FOLDER}/{name}.json")
        if isinstance(known, dict) and self._store.intact_images([f"{MAPS_FOLDER}/{name}.png"]):
            return Planned(name, result=known)
        return Planned(name, Job(name, self._run_explain, LIVE, None, (upload, objective, method), {page}))

    def _run_explain(self, jobs: list[Job], between_steps: Callable[[], None]) -> None:
        (job,) = jobs
        upload, objective, method = job.detail
        between_steps()
        found = fv.explain(self._network, str(self._uploads.path(upload)), objective, method)
        report = json.dumps({EXPLAINED_KEY: dict(found.recipe)})
        self._store.write(f"{MAPS_FOLDER}/{job.id}.png", encode(found.to_bytes()[0], ".png", report=report))
        facts = {"target": found.target, "method": method, "score": found.score.flatten()[0].item()}
        self._store.write(f"{MAPS_FOLDER}/{job.id}.json", json.dumps(facts))
        self._hub.send(job.pages, "done", {"id": job.id, "url": image_url(job.id), **facts})

    # ------------------------------------------------------------------------------------------ building blocks

    def blocks(self, upload: str, layer: str, page: str) -> Planned:
        """Plan the page that shows what a layer detects in each part of a photograph.

        Args:
            upload: Id of the photograph.
            layer: Name of the layer.
            page: The page that asks.

        Raises:
            FeatvizError: There is no such layer or photograph, or the layer has no positions.
        """
        self._uploads.path(upload)
        if self._network.logits_layer is None:
            raise RequestError(f"{self._network.label} has no class logits, to which parts of a photograph contribute")
        check_positions(self._network, layer)
        name = self._hash("blocks", upload, layer, repr(BLOCKS))
        if f"{name}.html" in self._store.names(BLOCKS_FOLDER):
            return Planned(name, result={"url": _blocks_url(name)})
        return Planned(name, Job(name, self._run_blocks, LIVE, None, (upload, layer), {page}))

    def _run_blocks(self, jobs: list[Job], between_steps: Callable[[], None]) -> None:
        (job,) = jobs
        upload, layer = job.detail
        height, width = (min(side, BLOCKS_SIDE) for side in self._network.size)

        def tell(count: int, total: int) -> None:
            progress = {"id": job.id, "done": count, "steps": total, "preview": None}
            self._hub.send(job.pages, "progress", progress)

        with open_image(self._uploads.path(upload)) as photograph:
            made = fv.blocks(
                self._network,
                photograph,
                layer,
                f"{self._store.root}/{BLOCKS_FOLDER}/{job.id}",
                size=(height, width),
                backend=_Interruptible(between_steps),
                progress=tell,
                **BLOCKS,
            )
        # The note comes last: where it is, the page is complete.
        self._store.write(f"{BLOCKS_FOLDER}/{job.id}.html", made.pages[0])
        self._hub.send(job.pages, "done", {"id": job.id, "url": _blocks_url(job.id), "score": None})

    def blocks_file(self, name: str, file: str) -> tuple[bytes, str]:
        """Return a file of a page of building blocks.

        Args:
            name: Id of the page.
            file: Path of the file within its folder. Only files that are listed there are read.

        Returns:
            Its content and its ending.

        Raises:
            RequestError: There is none.
        """
        folder, ending = f"{BLOCKS_FOLDER}/{name}", f".{file.rpartition('.')[2]}"
        parts = ("", f"{IMAGES_FOLDER}/", f"{THUMBNAILS_FOLDER}/", "sprites/")
        listed = {f"{part}{each}" for part in parts for each in self._store.names(f"{folder}/{part}".rstrip("/"))}
        if file not in listed or ending not in BLOCKS_ENDINGS:
            raise RequestError("nothing here", 404)
        return self._store.read(f"{folder}/{file}"), ending

    def _hash(self, *facts: str) -> str:
        return cache_key(self._network, fv.__version__, list(self._network.classes), *facts)


class _Interruptible:
    """Renders icons in the worker's thread, where more urgent work may run between their steps.

    Args:
        between_steps: Runs more urgent work; raises `KeyboardInterrupt` where nobody waits any more.
    """

    def __init__(self, between_steps: Callable[[], None]) -> None:
        self._between_steps = between_steps

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Render batches into a store, and yield the outcome of each image as soon as it is known."""
        for batch in batches:
            settings = {**batch.settings, "progress": lambda *_: self._between_steps()}
            yield from render_batch(network, replace(batch, settings=settings), store)


def _blocks_url(name: str) -> str:
    return f"./blocks/{name}/index.html"
