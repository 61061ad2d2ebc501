"""Images that pages ask for: name them by their recipes, find them in the store, or render them in batches."""

from __future__ import annotations

import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.explore.events import Hub
from featviz.apps.explore.requests import COMPARED, RequestError, Wanted
from featviz.apps.explore.uploads import Uploads
from featviz.apps.explore.worker import DRAFT, LIVE, OFF_SCREEN, VISIBLE, Job
from featviz.apps.shared.rendering.backends import render_batch
from featviz.apps.shared.rendering.batch import BATCH_SIZE, GPU_BATCH_SIZE, Batch, Template
from featviz.apps.shared.rendering.stored_images import image_file, rendered_names
from featviz.engine.shorthand import as_param, as_transforms
from featviz.errors import FeatvizError, first_line
from featviz.interfaces import ImageProgress, traits_of
from featviz.io import Store, encode, read_report, to_bytes

DRAFT_STEPS = 64
"""Steps of a draft. Images with as many steps or fewer are rendered before others, and not scored."""
FIRST_BATCH = 1
"""Number of images of the first batch of a layer, so that the first image is there soon. Later batches are larger."""
MAX_STEP_S = 0.3
"""Seconds that a step of a batch may take, so that more urgent work, which runs between steps, starts soon."""
REPORT_S, PREVIEW_S = 1.0, 0.2
"""Seconds between two reports of progress, and between two previews of an image."""
PREVIEW_SIDE = 256
"""Longer side of a preview in px, at most."""
MAX_TEMPLATES = 500
"""Number of templates that are remembered."""


@dataclass(frozen=True)
class Planned:
    """An image that was asked for.

    Args:
        id: Its name; empty where it cannot be rendered.
        job: Renders it; `None` where it is in the store.
        problem: Why it cannot be rendered.
        result: What is sent to a page once it is in the store, such as its address.
    """

    id: str
    job: Job | None = None
    problem: RequestError | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


class Images:
    """Plans and renders images. All methods run in the worker's thread.

    Args:
        network: The network.
        store: Where the images are.
        hub: Where their progress is reported.
        uploads: Photographs from which an image may start.
    """

    def __init__(self, network: fv.Network, store: Store, hub: Hub, uploads: Uploads) -> None:
        self._network, self._store, self._hub, self._uploads = network, store, hub, uploads
        self._templates: OrderedDict[Hashable, Template | Batch] = OrderedDict()
        self._known: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._pace: OrderedDict[Hashable, float] = OrderedDict()
        self._last: tuple[Hashable, int] = None, 0
        self._is_gpu = network.device.type == "cuda"

    # ------------------------------------------------------------------------------------------ planning

    def plan(self, wanted: Sequence[Wanted], page: str, *, off_screen: bool = False) -> list[Planned]:
        """Name images, and make jobs for those that are not in the store.

        Args:
            wanted: The images.
            page: The page that asks.
            off_screen: Whether they are not on the screen yet.

        Returns:
            One plan per image.
        """
        named: list[list[tuple[str, Batch]] | RequestError] = []
        for each in wanted:
            try:
                sizes = (False, True) if each.size == self._network.size else (True,)
                named.append([self._named(each, sized) for sized in sizes])
            except RequestError as error:
                named.append(error)
            except FeatvizError as error:
                named.append(RequestError(first_line(error)))
        existing = self.existing([name for pairs in named if isinstance(pairs, list) for name, _ in pairs])
        plans: list[Planned] = []
        for each, found in zip(wanted, named, strict=True):
            if isinstance(found, RequestError):
                plans.append(Planned("", problem=found))
            elif kept := next((name for name, _ in found if name in existing), None):
                plans.append(Planned(kept))
            else:
                plans.append(Planned(found[0][0], self._job(each, *found[0], page, off_screen)))
        return plans

    def _job(self, wanted: Wanted, name: str, batch: Batch, page: str, off_screen: bool) -> Job:
        level = LIVE if wanted.live else DRAFT if wanted.steps <= DRAFT_STEPS else VISIBLE
        sized = wanted.size != self._network.size
        key = self._key(wanted, sized)
        return Job(name, self._render, OFF_SCREEN if off_screen else level, key, batch, {page}, wanted.live)

    def existing(self, names: Sequence[str]) -> set[str]:
        """Return which images are in the store.

        Args:
            names: Names of images.
        """
        self._known |= rendered_names(self._store, [name for name in names if name not in self._known])
        return self._known.intersection(names)

    def seconds(self, name: str) -> float | None:
        """Return how long an image took; `None` if it was not rendered by this server.

        Args:
            name: Its name.
        """
        return self._seconds.get(name)

    def _named(self, wanted: Wanted, sized: bool) -> tuple[str, Batch]:
        """Return the name of an image, and the batch that renders it alone or with those that it is compared with.

        Args:
            wanted: The image.
            sized: Whether the param states the size. A sweep at the network's size leaves it out, which changes names.
        """
        key = self._key(wanted, sized)
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = self._template(wanted, sized)
        self._templates.move_to_end(key)
        while len(self._templates) > MAX_TEMPLATES:
            self._templates.popitem(last=False)
        if isinstance(found, Batch):
            if wanted.index >= len(found):
                raise RequestError(f"index must be below {len(found)}, got {wanted.index}")
            return found.names[wanted.index], found
        name = found.name(self._network, wanted.objective, wanted.seed)
        return name, Batch((wanted.objective,), (wanted.seed,), (name,), found.settings)

    def _key(self, wanted: Wanted, sized: bool) -> Hashable:
        """Return what images must have in common to be rendered together."""
        common = wanted.objective.layers, wanted.size, wanted.steps, wanted.param, wanted.transforms, sized
        alone = wanted.start is not None or traits_of(wanted.objective).compares_images
        return (*common, repr(wanted.objective), wanted.seed, wanted.start) if alone else common

    def _template(self, wanted: Wanted, sized: bool) -> Template | Batch:
        compares = traits_of(wanted.objective).compares_images
        size = wanted.size if sized else None
        settings: dict[str, Any] = {
            "param": as_param(wanted.param, size, COMPARED if compares else 1),
            "transforms": None if wanted.transforms is None else as_transforms(wanted.transforms),
            "steps": wanted.steps,
        }
        if not self._is_gpu:  # on a CPU, a measurement would delay the first image of every layer
            settings["execution"] = fv.Execution("float32")
        if wanted.steps <= DRAFT_STEPS:
            settings["robustness_views"] = 0
        if wanted.start is not None:
            settings["start"] = self._uploads.cropped(wanted.start, wanted.size)
        check_objective(self._network, wanted.objective)
        if compares:
            seeds = range(wanted.seed, wanted.seed + COMPARED)
            return Batch.of(self._network, [wanted.objective], seeds, self._store, **settings)
        template = Template.of(self._network, wanted.objective, [wanted.seed], self._store, **settings)
        if wanted.start is None:
            return template
        name = template.recipe.only(0).hash
        return Batch((wanted.objective,), (wanted.seed,), (name,), template.settings)

    # ------------------------------------------------------------------------------------------ rendering

    def warm_up(self) -> None:
        """Take one step of a draft, so that what is imported and measured once does not delay the first image."""
        layer = next((name for name, row in self._network.table.items() if row.has_positions), None)
        if layer is not None:
            with suppress(FeatvizError):
                fv.render(self._network, layer, steps=1, robustness_views=0, execution=fv.Execution("float32"))

    def batch_size(self, first: Job) -> int:
        """Return how many images to render together: few at first, and no more than a step has time for.

        Args:
            first: The first of them.
        """
        if first.group is None:
            return 1
        group, count = self._last
        count = min(2 * count, self._largest) if group == first.group and count else FIRST_BATCH
        count = self._largest if first.level > DRAFT else count
        self._last = first.group, count
        pace = self._pace.get(first.group)
        return count if pace is None else max(1, min(count, round(MAX_STEP_S / pace)))

    @property
    def _largest(self) -> int:
        return GPU_BATCH_SIZE if self._is_gpu else BATCH_SIZE

    def _render(self, jobs: list[Job], between_steps: Callable[[], None]) -> None:
        """Render the images of jobs of one group."""
        started = time.perf_counter()
        batch = join([job.detail for job in jobs])
        if len(self.existing(batch.names)) < len(batch):
            progress = StepProgress(jobs, between_steps, self._hub)
            running = replace(batch, settings={**batch.settings, "progress": progress})
            outcomes = {each.name: each.problem for each in render_batch(self._network, running, self._store)}
            took = (time.perf_counter() - started - progress.elsewhere) / len(batch)
            self._seconds |= dict.fromkeys(batch.names, took)
            if progress.steps:
                self._pace[jobs[0].group] = took / progress.steps
                self._pace.move_to_end(jobs[0].group)
                while len(self._pace) > MAX_TEMPLATES:
                    self._pace.popitem(last=False)
        else:
            outcomes = {}
        for job in jobs:
            if outcomes.get(job.id):
                self._hub.send(job.pages, "failed", {"id": job.id, "error": outcomes[job.id].partition("\n")[0]})
            else:
                self._known.add(job.id)
                self._hub.send(job.pages, "done", {"id": job.id, "url": image_url(job.id), "score": self.score(job.id)})

    def score(self, name: str) -> float | None:
        """Return the score of an image in the store; `None` if it has none.

        Args:
            name: Its name.
        """
        report = read_report(self._store.read(image_file(name)))
        history = report.get("history") or [None]
        found = report.get("score", history[-1])
        return float(found) if isinstance(found, int | float) else None


def join(batches: Sequence[Batch]) -> Batch:
    """Join batches of the same settings. Of a batch whose images are compared, there is only one.

    Args:
        batches: The batches.
    """
    first = batches[0]
    if first.is_joint or len(batches) == 1:
        return first
    return Batch(
        tuple(each.objectives[0] for each in batches),
        tuple(each.seeds[0] for each in batches),
        tuple(each.names[0] for each in batches),
        first.settings,
    )


def check_objective(network: fv.Network, objective: Any) -> None:
    """Check that a network has the layers, channels and classes of an objective.

    Args:
        network: The network.
        objective: The objective.

    Raises:
        FeatvizError: The network has no such layer, channel or class.
    """
    grey = torch.full((2, network.channels, *network.size), 0.5)
    fv.score(network, objective, grey)


def image_url(name: str) -> str:
    """Return the address of an image, relative to the page."""
    return f"./images/{name}.png"


class StepProgress(ImageProgress):
    """Tells pages how far their images are, and lets more urgent work run between two steps.

    Args:
        jobs: The jobs whose images are rendered.
        between_steps: Runs more urgent work; raises `KeyboardInterrupt` where nobody waits for the images any more.
        hub: Where progress is reported.
    """

    def __init__(self, jobs: Sequence[Job], between_steps: Callable[[], None], hub: Hub) -> None:
        self._jobs, self._between_steps, self._hub = jobs, between_steps, hub
        self._reported = self._previewed = 0.0
        self.steps, self.elsewhere = 0, 0.0

    def __call__(self, done: int, steps: int) -> None:
        """Let more urgent work run, and report the progress of the images."""
        self.steps = done
        started = time.perf_counter()
        self._between_steps()
        now = time.perf_counter()
        self.elsewhere += now - started
        if now - self._reported >= REPORT_S and not any(job.live for job in self._jobs):
            self._reported = now
            self._tell(done, steps, None)

    def wants_images(self, done: int, steps: int) -> bool:
        """Return whether it is time for a preview."""
        return any(job.live for job in self._jobs) and time.perf_counter() - self._previewed >= PREVIEW_S

    def show(self, done: int, steps: int, images: Tensor) -> None:
        """Send previews."""
        self._previewed = time.perf_counter()
        self._tell(done, steps, images)

    def _tell(self, done: int, steps: int, images: Tensor | None) -> None:
        for i, job in enumerate(self._jobs):
            preview = None if images is None or not job.live else preview_of(images[i])
            self._hub.send(job.pages, "progress", {"id": job.id, "done": done, "steps": steps, "preview": preview})


def preview_of(image: Tensor) -> str:
    """Return an image as a small JPEG in the text of a URL.

    Args:
        image: (c, h, w) in [0, 1].
    """
    step = max(1, -(-max(image.shape[1:]) // PREVIEW_SIDE))
    pixels = to_bytes(image[:, ::step, ::step].numpy(), alpha=len(image) == 4)
    return f"data:image/jpeg;base64,{b64encode(encode(pixels, '.jpg')).decode()}"
