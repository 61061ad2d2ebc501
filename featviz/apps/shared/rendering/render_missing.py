"""Render the images that a store does not have yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import featviz as fv
from featviz.apps.shared.rendering.backends import Backend, LocalBackend
from featviz.apps.shared.rendering.batch import BATCH_SIZE, GPU_BATCH_SIZE, Batch
from featviz.apps.shared.rendering.estimate import estimate
from featviz.apps.shared.rendering.stored_images import image_file, rendered_names
from featviz.io import Store

log = logging.getLogger("featviz")


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
        log.info("%s", estimate(network, todo, len(existing), is_local=isinstance(backend, LocalBackend)))
    for done, outcome in enumerate(backend.run(network, todo, store), 1):
        if outcome.problem:
            problems[outcome.name] = outcome.problem
        if progress:
            progress(done, count)
    return problems
