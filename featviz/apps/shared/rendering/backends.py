"""Where batches are rendered: in this process, or elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, runtime_checkable

import featviz as fv
from featviz.apps.shared.rendering.batch import Batch, Outcome
from featviz.apps.shared.rendering.stored_images import write_image
from featviz.io import Store

WRITING_THREADS = 4
"""Threads that encode and write files while the next batch renders."""


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
