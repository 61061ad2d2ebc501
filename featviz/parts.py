"""A batch in parts that fit in memory: what becomes of a picture does not depend on how many run beside it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.activations import Moved
from featviz.errors import RenderError
from featviz.health import Health
from featviz.job import Job
from featviz.lens import Lens
from featviz.memory import SPARE, free_bytes, is_out_of_memory, kept_bytes, read_bytes, show_bytes
from featviz.network import See
from featviz.random import Generators
from featviz.tiles import Tile

log = logging.getLogger("featviz")
CONSTANT = (
    "no gradient leads from the score to the picture: the network or the objective works it out without one, as under "
    "torch.no_grad, in numpy or with argmax; take that out"
)
LARGE = 512 * 512
"""From how many px on a view is large enough to say what it will take, even if nothing can be split."""


@dataclass(frozen=True)
class Part:
    """Pictures that run together.

    Args:
        some: which of the job's.
        rng: draws from their seeds.
    """

    some: slice
    rng: Generators

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return self.some.stop - self.some.start


class Parts:
    """The pictures of a job, in as few parts as memory allows.

    Args:
        job: what is to be done.
        see: the opened network.
    """

    def __init__(self, job: Job, see: See) -> None:
        self._job, self._see = job, see
        self._all = [Part(slice(0, len(job.seeds)), job.rng)]
        self._cut = False

    @property
    def at_once(self) -> int | None:
        """How many pictures run together; `None` means all."""
        return None if len(self._all) == 1 else max(map(len, self._all))

    def climb(self, health: Health, done: float) -> Float[Tensor, " n"]:
        """Score every picture, and leave the gradients in the job's leaves.

        Args:
            health: of the render.
            done: how much of it is done, from 0 to 1.

        Raises:
            RenderError: not even the smallest part fits in memory.
        """
        if not self._cut:
            at_once = self._job.plan.at_once or self._fitting()
            self._all = self._split(self._all[0], at_once) if at_once else self._all
            self._cut = True
        scores, i = [], 0
        while i < len(self._all):
            part = self._all[i]
            part.rng.mark()
            try:
                scores.append(self._climb(part, health, done))
                i += 1
                continue
            except (RuntimeError, MemoryError) as error:  # outside of this block, or its traceback keeps the memory
                if not is_out_of_memory(error):
                    raise
            part.rng.rewind()
            smaller = self._split(part, max(1, len(part) // 2))
            if len(smaller) == 1:
                height, width = self._job.size
                raise RenderError(
                    f"out of memory with {len(part)} of {height} x {width} px at a time; give a smaller size, or --tile"
                )
            log.warning("out of memory with %d pictures at a time; going on with %d", len(part), len(smaller[0]))
            self._all[i : i + 1] = smaller
        return torch.cat(scores)

    @torch.no_grad()
    def score(self, lens: Lens) -> Float[Tensor, " n"]:
        """Score every picture as it is now, in one view through a lens; tiles count alike."""
        job, scores = self._job, []
        wider = math.prod(lens.tile) > math.prod(job.lens.tile)  # than what is known to fit in memory
        all_parts = [small for part in self._all for small in self._split(part, 1)] if wider else self._all
        for part in all_parts:
            images = job.images([leaf[part.some] for leaf in job.leaves])
            views, moved = lens.look(images, part.rng)
            seen = [
                job.scores(
                    self._see(tile.cut(views)).of(images, done=1.0, moved=_then(moved, tile), has_alpha=job.has_alpha),
                    part.some,
                )
                for tile in lens.tiles
            ]
            scores.append(torch.stack(seen).mean(0))
        return torch.cat(scores)

    def _climb(self, part: Part, health: Health, done: float) -> Float[Tensor, " n"]:
        """Score the pictures of a part, and leave their gradients in the job's leaves."""
        job, some = self._job, part.some
        whole = len(part) == len(job.seeds)
        leaves = job.leaves if whole else [leaf.detach()[some].requires_grad_() for leaf in job.leaves]
        images = job.images(leaves)
        views, moved = job.lens.look(images, part.rng)
        health.listen(views, images)
        wake = None if health.wake is None else health.wake[some]

        def score(view: Tensor, canvas: Tensor, moved: Moved) -> Tensor:
            acts = self._see(view, wake=wake).of(canvas, done=done, moved=moved, has_alpha=job.has_alpha)
            scores = job.scores(acts, some)
            if not scores.requires_grad:
                raise RenderError(CONSTANT)
            return scores

        if len(job.lens.tiles) == 1:
            scores = score(views, images, moved)
            (-scores.sum()).backward()
        else:
            scores = _by_tiles(score, job.lens.tiles, views, images, moved)
        health.hear(some, views, images)
        if not whole:
            for leaf, own in zip(job.leaves, leaves, strict=True):
                if own.grad is not None:
                    leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                    leaf.grad[some] = own.grad
        return scores.detach()

    def _split(self, part: Part, at_once: int) -> list[Part]:
        """Cut a part into smaller ones of so many pictures, without tearing apart what belongs together."""
        first, cuts = part.some.start, [part.some.start]
        for unit in self._job.units:
            if cuts[-1] < unit.start < part.some.stop and unit.stop - cuts[-1] > at_once:
                cuts.append(unit.start)
        small = pairwise([*cuts, part.some.stop])
        return [Part(slice(low, high), part.rng[low - first : high - first]) for low, high in small]

    def _fitting(self) -> int | None:
        """Find how many pictures fit in memory at once, by running as few as can be; `None` means all of them."""
        job = self._job
        unit, count = job.units[0], len(job.seeds)
        if len(job.units) == 1 and math.prod(job.lens.tiles[0].weights.shape) < LARGE:
            return None
        try:
            each = self._footprint(unit)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return unit.stop - unit.start  # which is where `climb` gives up
            raise
        state = 4 * sum(leaf.nbytes for leaf in job.leaves)  # with their gradients and two moments
        free = free_bytes(job.network.device)
        limit = min(free, read_bytes(job.plan.max_memory)) if job.plan.max_memory else free
        needed, fit = state + count * each, max(unit.stop - unit.start, int((limit - state) // max(each, 1)))
        if needed <= limit:
            log.info("%s about %s", "1 picture takes" if count == 1 else f"{count} pictures take", show_bytes(needed))
            return None
        if len(job.units) == 1:
            log.warning(
                "what cannot be split takes about %s of %s; --tile cuts views", *map(show_bytes, (needed, limit))
            )
            return None
        log.warning(
            "%d pictures would take about %s; %d at a time take about %s",
            count,
            show_bytes(needed),
            fit,
            show_bytes(state + fit * each),
        )
        return fit

    def _footprint(self, unit: slice) -> float:
        """Return how many bytes a picture takes at its peak, by a forward pass of a few, once for each plan."""
        job, pictures = self._job, unit.stop - unit.start
        leaves = [leaf.detach()[unit].requires_grad_() for leaf in job.leaves]

        def run() -> object:
            views, _ = job.lens.look(job.images(leaves), Generators(range(pictures)))
            return self._see(job.lens.tiles[0].cut(views))

        known = job.network.footprints
        key = (job.layers, job.size, job.lens.tiles[0].weights.shape, job.plan, repr(job.param))
        if key not in known:
            known[key] = SPARE * kept_bytes(run, aside=job.network.storages) / pictures
        return known[key]


def _by_tiles(
    score: Callable[[Tensor, Tensor, Moved], Tensor],
    tiles: Sequence[Tile],
    views: Float[Tensor, "n c h w"],
    images: Float[Tensor, "n c2 h2 w2"],
    moved: Moved,
) -> Float[Tensor, " n"]:
    """Let the network see one tile after another, then lead their gradients back together: memory holds one at a time.

    Args:
        score: of what the network sees, the pictures, and how masks move to where they are seen.
        tiles: of the views.
        views: what there is to be seen.
        images: the pictures.
        moved: moves masks from these to those.

    Returns:
        The mean over the tiles.
    """
    canvas, pull = images.detach().requires_grad_(), torch.zeros_like(views)
    scores = torch.zeros(len(views), device=views.device)
    for tile in tiles:
        view = tile.cut(views.detach()).clone().requires_grad_()
        part = score(view, canvas, _then(moved, tile)) / len(tiles)
        (-part.sum()).backward()
        if view.grad is not None:
            twice = len(tiles) * view[0, 0].numel() / views[0, 0].numel()  # since tiles overlap, each counts for less
            tile.cut(pull).add_(view.grad * (twice * tile.weights).to(view.grad))
        scores += part.detach()
    if canvas.grad is None:
        views.backward(pull)
    else:
        torch.autograd.backward((views, images), (pull, canvas.grad))
    return scores


def _then(moved: Moved, tile: Tile) -> Moved:
    return lambda masks: tile.cut(moved(masks))
