"""Render many images into a store. Each file is named by the hash of its recipe, so no image is rendered twice."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import featviz as fv
from featviz.apps.shared.input_pictures import icon_pixels
from featviz.apps.shared.page import pluralize
from featviz.io import Store, encode
from featviz.network import PRECISIONS

log = logging.getLogger("featviz")

BATCH_SIZE, GPU_BATCH_SIZE = 8, 64
"""Images that are rendered in one call, and those on a GPU. Larger batches save no time per image, and an interrupt
would lose more. Source: `make bench-gpu` and `make scaling`."""
WRITING_THREADS = 4
"""Threads that encode and write files while the next batch renders."""
THUMBNAIL_SIZE = 256
"""Longer side in px of the small copies that pages show first."""
IMAGES_FOLDER = "images"
"""Folder of the images in a store."""
THUMBNAILS_FOLDER = "thumbs"
"""Folder of their small copies."""
ICONS_FOLDER = "icons"
"""Folder of pictures of signals, volumes and clips that are small and square."""
MIN_ESTIMATED = 8
"""Smallest number of images for which the time is estimated before they are rendered."""
WARM_UP_STEPS, TIMED_STEPS, TIMED_GPU_STEPS = 1, 4, 64
"""Number of steps that run before the time is taken, of those that are timed, and the same on a GPU, where the first
steps are recorded and the CPU launches later ones ahead of time."""
SECONDS_SHOWN, MINUTES_SHOWN = 90, 90
"""Durations below these are shown in seconds, or in minutes."""
PRECISION_FILE = "precision.json"
"""File of a store with the precision that was chosen first, by network and layers. All its images have the same one."""


def image_file(name: str) -> str:
    """Return the path of an image in its store."""
    return f"{IMAGES_FOLDER}/{name}.png"


def thumbnail_file(name: str) -> str:
    """Return the path of the small copy of an image in its store."""
    return f"{THUMBNAILS_FOLDER}/{name}.webp"


def icon_file(name: str) -> str:
    """Return the path of the icon of a signal, a volume or a clip in its store. Images have none but the small copy."""
    return f"{ICONS_FOLDER}/{name}.webp"


@dataclass(frozen=True)
class Template:
    """Recipe and settings that images of the same layers share; file names are computed from them without rendering.

    Args:
        recipe: Recipe of the first of them.
        settings: Further arguments of `fv.render`, with the execution.
    """

    recipe: fv.Recipe
    settings: Mapping[str, Any] = field(hash=False)

    @classmethod
    def of(cls, network: fv.Network, objective: Any, seeds: Sequence[int], store: Store, **settings: Any) -> Template:
        """Prepare a render, in the precision of the store's other images of the same layers.

        Args:
            network: The network that the images are rendered for.
            objective: Objective of the first image, or of all images of a joint batch.
            seeds: Seed of the first image, or of each image of a joint batch.
            store: Where the images will be.
            settings: Further arguments of `fv.render`. The precision of `execution` holds where the store has none.

        Returns:
            The template.

        Raises:
            FeatvizError: The image cannot be rendered.
        """
        # Only this recipe comes from a render (of no steps); others differ from it in objective and seed alone.
        key = " ".join([network.fingerprint, *sorted(objective.layers)])
        known = _precisions(store)
        given = settings.get("execution", fv.Execution()).precision
        start_only = {**settings, "until": 0, "robustness_views": 0, "execution": fv.Execution(known.get(key, given))}
        start = fv.render(network, objective, seed=tuple(seeds), **start_only)
        execution = fv.Execution(start.execution.precision)
        if known.get(key) != execution.precision:
            store.write(PRECISION_FILE, json.dumps(known | {key: execution.precision}))
        return cls(replace(start.recipe, until=None), {**settings, "execution": execution})

    def name(self, network: fv.Network, objective: Any, seed: int) -> str:
        """Return the name of the image of another objective of the same layers, and another seed.

        Args:
            network: The network.
            objective: The objective.
            seed: The seed, >= 0.
        """
        return self.recipe.about(objective, seed, network.heads).hash


@dataclass(frozen=True)
class Batch:
    """Images that are rendered in one call of `fv.render`.

    Args:
        objectives: One objective per image; or a single one for all images, which may compare them.
        seeds: Seed of each image.
        names: Hash of each image's recipe, which names its file.
        settings: Further arguments of `fv.render`.
    """

    objectives: tuple[Any, ...]
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(hash=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    @property
    def is_joint(self) -> bool:
        """Whether one objective spans all images, so that the batch cannot be split."""
        return len(self.objectives) < len(self.names)

    @classmethod
    def of(
        cls, network: fv.Network, objectives: Sequence[Any], seeds: Sequence[int], store: Store, **settings: Any
    ) -> Batch:
        """Compute the recipe hash of each image, in the precision of the store's other images of the same layers.

        Args:
            network: The network that the images are rendered for.
            objectives: One per seed, or a single one for all seeds.
            seeds: Seed of each image, >= 0.
            store: Where the images will be.
            settings: Further arguments of `fv.render`.

        Returns:
            The batch.

        Raises:
            FeatvizError: The first image cannot be rendered.
        """
        is_joint = len(objectives) < len(seeds)
        first = Template.of(network, objectives[0], seeds if is_joint else seeds[:1], store, **settings)
        if is_joint:
            names = [first.recipe.only(i).hash for i in range(len(seeds))]
        else:
            names = [first.name(network, *pair) for pair in zip(objectives, seeds, strict=True)]
        return cls(tuple(objectives), tuple(seeds), tuple(names), first.settings)

    def without(self, existing: set[str], size: int = BATCH_SIZE) -> list[Batch]:
        """Return batches of the images that are not rendered yet.

        Args:
            existing: Names of the images that are rendered.
            size: Largest number of images of a batch, unless it is joint.
        """
        left = [i for i, name in enumerate(self.names) if name not in existing]
        if self.is_joint:
            return [self] if left else []
        return [self._only(left[first : first + size]) for first in range(0, len(left), size)]

    def singles(self) -> list[Batch]:
        """Return one batch per image."""
        return [self._only([i]) for i in range(len(self))]

    def _only(self, indices: Sequence[int]) -> Batch:
        return replace(
            self,
            objectives=tuple(self.objectives[i] for i in indices),
            seeds=tuple(self.seeds[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
        )


@dataclass(frozen=True)
class Outcome:
    """Result of rendering one image.

    Args:
        name: Hash of its recipe.
        problem: Why it could not be rendered; empty if it is in the store.
    """

    name: str
    problem: str = ""


@runtime_checkable
class Backend(Protocol):
    """Where batches are rendered."""

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Render batches into a store, and yield the outcome of each image as soon as it is known.

        Args:
            network: The network.
            batches: The images to render.
            store: Where the files are written.
        """


class LocalBackend:
    """Renders one batch after another in this process."""

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Render batches into a store, and yield the outcome of each image as soon as it is known."""
        if network.device.type == "cuda":
            yield from run_overlapped(network, batches, store)
            return
        for batch in batches:
            yield from render_batch(network, batch, store)


def run_overlapped(network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
    """Write the files of each batch while the next one renders, since encoding them takes the CPU and not the GPU.

    Args:
        network: The network.
        batches: The images to render.
        store: Where the files are written.

    Yields:
        The outcome of each image.
    """
    unwritten: tuple[list[Outcome], list[Future[None]]] = [], []
    with ThreadPoolExecutor(WRITING_THREADS) as pool:
        for batch in batches:
            writing: list[Future[None]] = []
            outcomes = render_batch(network, batch, store, partial(_submit, pool, writing))
            yield from _wait_for_files(*unwritten)
            unwritten = outcomes, writing
        yield from _wait_for_files(*unwritten)


def _submit(pool: ThreadPoolExecutor, writing: list[Future[None]], write: Callable[[], None]) -> None:
    writing.append(pool.submit(write))


def _wait_for_files(outcomes: list[Outcome], writing: list[Future[None]]) -> list[Outcome]:
    """Wait until the files of a batch are written, and return its outcomes."""
    for each in writing:
        each.result()
    return outcomes


def render_missing(
    network: fv.Network,
    batches: Sequence[Batch],
    store: Store,
    backend: Backend,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Render the images that are not in the store yet, or that are damaged.

    Args:
        network: The network.
        batches: All images.
        store: Where the files are, and are written.
        backend: Where to render.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        Why an image could not be rendered, by its name; empty if all were.

    Raises:
        OutputError: The store cannot be written to.
    """
    planned = [name for batch in batches for name in batch.names]
    existing = rendered_names(store, planned)
    for name in set(planned) - existing:
        store.remove(image_file(name))  # it may be there and be damaged, and is not rendered again after Ctrl-C
    size = GPU_BATCH_SIZE if network.device.type == "cuda" else BATCH_SIZE
    todo = [part for batch in batches for part in batch.without(existing, size)]
    count, problems = sum(map(len, todo)), {}
    if log.isEnabledFor(logging.INFO):
        log.info("%s", _estimate(network, todo, len(existing), is_local=isinstance(backend, LocalBackend)))
    for done, outcome in enumerate(backend.run(network, todo, store), 1):
        if outcome.problem:
            problems[outcome.name] = outcome.problem
        if progress:
            progress(done, count)
    return problems


def _estimate(network: fv.Network, todo: Sequence[Batch], existing: int, *, is_local: bool) -> str:
    """Return how many images will be rendered, and about how long that takes, from a few steps of the first batch."""
    count, there = sum(map(len, todo)), f"{existing} are there already" if existing else ""
    text = ", ".join(filter(None, (f"{pluralize(count, 'image')} to render", there)))
    if count < MIN_ESTIMATED or not is_local:
        return text
    first, times = todo[0], []
    objectives = first.objectives[0] if first.is_joint else list(first.objectives)
    timed = TIMED_GPU_STEPS if network.device.type == "cuda" else TIMED_STEPS
    options = {**first.settings, "until": WARM_UP_STEPS + timed, "robustness_views": 0}
    options["progress"] = lambda *_: times.append(time.perf_counter())
    try:
        with warnings.catch_warnings(record=True):
            rendering = fv.render(network, objectives, seed=first.seeds, **options)
        end = time.perf_counter()  # a render ends when the GPU is done
    except Exception:  # the same error is reported when its images are rendered
        return text
    if len(times) < WARM_UP_STEPS + timed < rendering.recipe.steps:
        raise KeyboardInterrupt  # the render caught it and returned early
    if len(times) <= WARM_UP_STEPS:
        return text
    each = (end - times[WARM_UP_STEPS - 1]) / (len(times) - WARM_UP_STEPS)
    return f"{text}, about {_duration(each * rendering.recipe.steps * sum(map(len, todo)) / len(first))}"


def _duration(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    >>> _duration(4.2), _duration(200), _duration(9000)
    ('4 s', '3 min', '2.5 h')
    """
    if seconds < SECONDS_SHOWN:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < MINUTES_SHOWN * 60 else f"{seconds / 3600:.1f} h"


def copy_precisions(other: Store, store: Store) -> None:
    """Render in the precision of another store what was rendered there, unless the store has a choice of its own.

    Args:
        other: The other store.
        store: The store.
    """
    store.write(PRECISION_FILE, json.dumps(_precisions(other) | _precisions(store)))


def _precisions(store: Store) -> dict[str, Any]:
    """Return the precision by network and layers; empty where none is known, or the file is damaged."""
    found = store.read_json(PRECISION_FILE)
    return {key: each for key, each in found.items() if each in PRECISIONS} if isinstance(found, dict) else {}


def rendered_names(store: Store, names: Iterable[str]) -> set[str]:
    """Return which images are in a store. What cannot be read counts as missing.

    Args:
        store: The store.
        names: Names of images.
    """
    files, thumbnails = store.names(IMAGES_FOLDER), store.names(THUMBNAILS_FOLDER)
    listed = [name for name in names if f"{name}.png" in files and f"{name}.webp" in thumbnails]
    intact = store.intact_images(map(thumbnail_file, listed))
    return {name for name in listed if thumbnail_file(name) in intact and _has_recipe(store, name)}


def copy_images(other: Store, store: Store, names: Sequence[str]) -> int:
    """Copy images from another store that has them, and return how many it has.

    Args:
        other: The other store.
        store: Where they are copied to.
        names: Names of images.

    Raises:
        OutputError: The store cannot be written to.
    """
    existing = rendered_names(other, names)
    icons = {file.removesuffix(".webp") for file in other.names(ICONS_FOLDER)}
    for name in existing - rendered_names(store, existing):
        icon = [icon_file(name)] if name in icons else []
        for file in (*icon, thumbnail_file(name), image_file(name)):  # as in `write_image`, the image comes last
            store.write(file, other.read(file))
    return sum(name in existing for name in names)


def _has_recipe(store: Store, name: str) -> bool:
    """Return whether an image can be read, and its recipe."""
    if store.path is None:  # elsewhere, images appear when they are complete
        return True
    try:
        return fv.Recipe.of(store.read(image_file(name))) is not None
    except fv.FeatvizError:
        return False


def render_batch(
    network: fv.Network,
    batch: Batch,
    store: Store,
    start: Callable[[Callable[[], None]], object] | None = None,
) -> list[Outcome]:
    """Render a batch into a store.

    If the batch fails, its images are rendered one by one, so that one failure costs one image.

    Args:
        network: The network.
        batch: The images.
        store: Where the files are written.
        start: Starts writing the files of one image elsewhere; `None` to write them before returning.

    Returns:
        The outcome of each image.

    Raises:
        OutputError: The store cannot be written to.
        KeyboardInterrupt: The render was interrupted; nothing of the batch is written.
    """
    objectives = batch.objectives[0] if batch.is_joint else list(batch.objectives)
    try:
        with warnings.catch_warnings(record=True):  # problems are reported in the outcome of their image
            rendering = fv.render(network, objectives, seed=batch.seeds, **batch.settings)
    except Exception as error:
        if len(batch) == 1 or batch.is_joint:
            return [Outcome(name, str(error) or type(error).__name__) for name in batch.names]
        return [outcome for single in batch.singles() for outcome in render_batch(network, single, store, start)]
    if rendering.recipe.until is not None:  # `fv.render` returns what it has after Ctrl-C
        raise KeyboardInterrupt
    for i, name in enumerate(batch.names):
        if i not in rendering.problems:
            write = partial(write_image, rendering[i], name, store)
            start(write) if start else write()
    return [Outcome(name, rendering.problems.get(i, "")) for i, name in enumerate(batch.names)]


def write_image(image: fv.Rendering, name: str, store: Store) -> None:
    """Write an image and its small copy.

    Args:
        image: The image.
        name: Hash of its recipe.
        store: Where the files are written.

    Raises:
        OutputError: The store cannot be written to.
    """
    # The image comes last: where it exists, its thumbnail does too.
    if image.recipe.input.axes != "yx":
        icon = icon_pixels(image.images[0], image.recipe.input.axes)
        store.write(icon_file(name), encode(icon, ".webp"))
    store.write(thumbnail_file(name), image.encoded(".webp", side=THUMBNAIL_SIZE))
    store.write(image_file(name), image.encoded())
