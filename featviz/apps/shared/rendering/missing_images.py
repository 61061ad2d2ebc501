"""Render the images that a store does not have yet."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence

import featviz as fv
from featviz.apps.shared.rendering.backends import Backend, LocalBackend
from featviz.apps.shared.rendering.batch import BATCH_SIZE, GPU_BATCH_SIZE, Batch
from featviz.apps.shared.rendering.stored_images import image_file, rendered_names
from featviz.errors import pluralize
from featviz.io import Store

log = logging.getLogger("featviz")

MIN_ESTIMATED = 8
"""Smallest number of images for which the time is estimated before they are rendered."""
WARM_UP_STEPS, TIMED_STEPS, TIMED_GPU_STEPS = 1, 4, 64
"""Number of steps that run before the time is taken, of those that are timed, and the same on a GPU, where the first
steps are recorded and the CPU launches later ones ahead of time."""
SECONDS_SHOWN, MINUTES_SHOWN = 90, 90
"""Durations below these are shown in seconds, or in minutes."""


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
