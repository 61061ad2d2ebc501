"""Render the images of pages into a store and write the pages, also when images fail or the run is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import featviz as fv
from featviz.apps.shared.rendering.backends import Backend, LocalBackend
from featviz.apps.shared.rendering.batch import Batch
from featviz.apps.shared.rendering.missing_images import render_missing
from featviz.apps.shared.rendering.stored_images import IMAGES_FOLDER
from featviz.engine.shorthand import as_param
from featviz.errors import OutputError, SettingError, pluralize, shown
from featviz.interfaces import Param, Size
from featviz.io import Store, check_matplotlib

MAX_IMAGES = 1000
"""Largest number of images of one class or unit."""


@dataclass
class Album:
    """The images of one page.

    Args:
        network: The network that the images are rendered for.
        store: Where they will be.
        batches: Batches in which the images are rendered.
        cards: Name and note of each image, by the title under which the page shows it. The note says how the image
            differs from the others of its title.
    """

    network: fv.Network
    store: Store
    batches: list[Batch] = field(default_factory=list)
    cards: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def param(self, size: int | Size | None, batch: int = 1) -> Param:
        """Return the default param for the network's input.

        Args:
            size: Length of each axis in px, or one side; `None` for the network's input size.
            batch: Number of images per objective.
        """
        return as_param(None, size, batch, spec=self.network.input)

    def add(
        self,
        objectives: Sequence[Any],
        seeds: Sequence[int],
        titles: Sequence[str],
        notes: Sequence[str] | None = None,
        **settings: Any,
    ) -> tuple[str, ...]:
        """Add images, one per seed.

        Args:
            objectives: One per seed, or a single one for all seeds.
            seeds: Seed of each image, >= 0.
            titles: Title of each image.
            notes: Note of each image; `None` for no notes.
            settings: Further arguments of `fv.render`.

        Returns:
            The names of the images.

        Raises:
            FeatvizError: The first image cannot be rendered.
        """
        batch = Batch.of(self.network, objectives, seeds, self.store, **settings)
        self.batches.append(batch)
        for name, title, note in zip(batch.names, titles, notes or [""] * len(batch), strict=True):
            self.cards.setdefault(title, []).append((name, note))
        return batch.names


@dataclass(frozen=True)
class RenderedImages:
    """The images that are in a store when its pages are written.

    Args:
        store: The store.
        names: Names of the images in it.
        problems: Why an image could not be rendered, by its name.
    """

    store: Store
    names: frozenset[str]
    problems: Mapping[str, str]


@dataclass(frozen=True)
class Pages:
    """The result of `fv.gallery`, `fv.sweep`, `fv.atlas`, `fv.blocks` and `fv.circuit`.

    Args:
        store: Folder or URL of all files.
        pages: Files of the pages; the first one links to all others.
        count: Number of images on them.
        problems: By objective, why its image is missing, or which photograph it copies.
        facts: Numbers about each layer or unit, by its address and name, such as the purity of an atlas.
    """

    store: Store
    pages: tuple[str, ...]
    count: int
    problems: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show the number of images and the path of the first page."""
        problems = f", {len(self.problems)} with problems" if self.problems else ""
        return f"<{pluralize(self.count, 'image')}{problems}: {self.page}>"

    @property
    def page(self) -> str:
        """Path or URL of the first page."""
        return f"{str(self.store.path or self.store.url).rstrip('/')}/{self.pages[0]}"


def render_pages(
    network: fv.Network,
    albums: Sequence[Album],
    store: Store,
    write_pages: Callable[[RenderedImages], Sequence[str]],
    backend: Backend | None,
    progress: Callable[[int, int], None] | None,
) -> Pages:
    """Render the images that are missing, then write the pages. They are also written after Ctrl-C.

    Args:
        network: The network.
        albums: One per page.
        store: Where everything is written.
        write_pages: Writes the pages from the images in the store, and returns their files.
        backend: Where to render; `None` for this process.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        The pages.

    Raises:
        SettingError: `backend` cannot render batches.
        OutputError: The store cannot be written to, or the images are signals and matplotlib is not installed.
    """
    problems: dict[str, str] = {}
    if network.tokens is None and network.input.axes == "x":
        check_matplotlib("cannot make pages of signals")
    batches = [batch for album in albums for batch in album.batches]
    chosen = LocalBackend() if backend is None else backend
    if not isinstance(chosen, Backend):
        raise SettingError(f"backend must have `run`, got {shown(backend)}; use fv.RayBackend() or None")
    try:
        problems = render_missing(network, batches, store, chosen, progress)
    finally:
        existing = frozenset(file.removesuffix(".png") for file in store.names(IMAGES_FOLDER))
        pages = write_pages(RenderedImages(store, existing, problems))
    vanished = {name for batch in batches for name in batch.names} - existing - problems.keys()
    if vanished:
        raise OutputError(
            f"{pluralize(len(vanished), 'image')} vanished from {store.url} during the run; was it deleted? run again"
        )
    wanted = [(title, *image) for album in albums for title, images in album.cards.items() for image in images]
    missing = {
        ", ".join(filter(None, (title, note))): problems[name] for title, name, note in wanted if name in problems
    }
    return Pages(store, tuple(pages), len(wanted) - len(missing), missing)
