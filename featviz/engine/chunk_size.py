"""Estimate the number of images that fit in memory at once."""

from __future__ import annotations

import logging
import math
import operator
from weakref import WeakKeyDictionary

import torch

from featviz.engine.job import Job
from featviz.engine.memory import PEAK_RATIO, free_bytes, saved_bytes
from featviz.errors import RenderError, pluralize
from featviz.interfaces import show_size
from featviz.network import Forward, Network
from featviz.network.execution import format_bytes, parse_bytes
from featviz.network.out_of_memory import is_out_of_memory
from featviz.random import Generators
from featviz.transforms.fusing import new_draws

log = logging.getLogger("featviz")

LARGE_VIEW = 512 * 512
"""Views of more px than this have their memory estimated even if the batch cannot be split."""
LARGE_RATIO = 4
"""Views with at least this many times the pixels of the network's input are checked by a pass of a part of them."""

_image_bytes: WeakKeyDictionary[Network, dict[object, float]] = WeakKeyDictionary()
"""Measured peak memory per image in bytes, by network and by what it depends on. Repeated renders measure once."""


def fitting_chunk_size(job: Job, forward: Forward) -> int | None:
    """Estimate how many images fit in memory at once, by running the smallest group.

    Args:
        job: The prepared render.
        forward: Runs the opened network.

    Returns:
        The number of images; `None` for all of them.

    Raises:
        RenderError: The smallest group does not fit, as estimated from a pass over part of its view.
    """
    group, count = job.groups[0], len(job.seeds)
    smallest = group.stop - group.start
    if len(job.groups) == 1 and math.prod(job.view.tile) < LARGE_VIEW:
        return None
    if job.network.device.type == "cpu":
        _check_views_fit(job, forward, group)
    try:
        each = _bytes_per_image(job, forward, group)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return smallest  # `backward` then reports that not even this fits
        raise
    state = 4 * sum(leaf.nbytes for leaf in job.leaves)  # the tensors, their gradients and two moments of Adam
    free = free_bytes(job.network.device)
    limit = min(free, parse_bytes(job.execution.max_memory)) if job.execution.max_memory else free
    needed, fit = state + count * each, max(smallest, int((limit - state) // max(each, 1)))
    if needed <= limit:
        log.info(
            "%s about %s of memory", "1 image takes" if count == 1 else f"{count} images take", format_bytes(needed)
        )
        return None
    if len(job.groups) == 1:
        log.warning(
            "a batch that cannot be split takes about %s of %s; --tile cuts views into tiles",
            *map(format_bytes, (needed, limit)),
        )
        return None
    log.warning(
        "%d images would take about %s; %d at a time take about %s",
        *(count, format_bytes(needed), fit, format_bytes(state + fit * each)),
    )
    return fit


def _check_views_fit(job: Job, forward: Forward, group: slice) -> None:
    """Check that a pass of the smallest group can fit in memory, from a pass of a small part of its large views.

    Where memory runs out, a GPU raises an error, but most operating systems kill the process.

    Raises:
        RenderError: The outputs of the layers alone exceed the free memory.
    """
    count = group.stop - group.start
    whole, part = job.view.tile, job.network.size
    ratio = math.prod(whole) / math.prod(part)
    if math.prod(whole) < LARGE_VIEW or ratio < LARGE_RATIO or any(map(operator.lt, whole, part)):
        return
    with torch.no_grad():
        images = job.images(job.rows_of(job.leaves, group))
        corner, _ = job.view.transformed(images, new_draws(Generators(range(count))))
        for axis, side in enumerate(part, start=2):
            corner = corner.narrow(axis, 0, side)
    corner = corner.clone().requires_grad_()
    with forward.trial():
        least = ratio * saved_bytes(lambda: forward(corner, rows=group), aside=job.network.storages)
    free = free_bytes(job.network.device)
    if least > free:
        raise RenderError(
            f"out of memory: {pluralize(count, 'image')} seen at {show_size(whole)} px take over "
            f"{format_bytes(least)}, and {format_bytes(free)} are free; give a smaller size, or --tile"
        )


def _bytes_per_image(job: Job, forward: Forward, group: slice) -> float:
    """Estimate the peak memory of one image in bytes, from a forward pass of the smallest group."""
    count = group.stop - group.start
    leaves = [leaf.detach().requires_grad_() for leaf in job.rows_of(job.leaves, group)]

    def run() -> object:
        views, _ = job.view.transformed(job.images(leaves), new_draws(Generators(range(count))))
        return forward(job.view.tiles_of(views)[0].cut(views), rows=group)

    known = _image_bytes.setdefault(job.network, {})
    key = (job.layers, job.size, job.view.tile, job.execution, repr(job.param), repr(job.view.transforms))
    if key not in known:
        with forward.trial():
            known[key] = PEAK_RATIO * saved_bytes(run, aside=job.network.storages) / count
    return known[key]
