"""Split a batch into chunks that fit in memory; the chunk size changes results by rounding only."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featviz.engine.chunk_size import fitting_chunk_size
from featviz.engine.draws import StepDraws
from featviz.engine.job import Job
from featviz.engine.monitor import BLOCKED, NOT_DIFFERENTIABLE, Gradients, check_differentiable
from featviz.engine.tiles import Tile
from featviz.engine.view import View
from featviz.errors import RenderError, pluralize
from featviz.interfaces import Leaves, show_size
from featviz.network import Forward
from featviz.network.activations import MoveMasks
from featviz.network.out_of_memory import is_out_of_memory
from featviz.transforms.fusing import DrawFunction, new_draws

log = logging.getLogger("featviz")


@dataclass(frozen=True)
class Chunk:
    """Images that run together.

    Args:
        rows: Their indices in the batch.
        draws: What their transforms draw in each step.
    """

    rows: slice
    draws: StepDraws

    def __len__(self) -> int:
        """Return the number of images."""
        return self.rows.stop - self.rows.start


class Chunks:
    """The images of a job in as few chunks as memory allows.

    Args:
        job: The prepared render.
        forward: Runs the opened network.
        steps: Number of steps that will run.
    """

    def __init__(self, job: Job, forward: Forward, steps: int) -> None:
        self._job, self._forward = job, forward
        self._all = [Chunk(slice(0, len(job.seeds)), StepDraws(job.view.transforms, job.rng, steps))]
        self._split_once = False

    @property
    def chunk_size(self) -> int | None:
        """Number of images that run together; `None` for the whole batch."""
        return None if len(self._all) == 1 else max(map(len, self._all))

    def backward(
        self,
        done: float,
        *,
        redirect: Bool[Tensor, " n"] | None = None,
        want_gradients: bool = False,
        graph: bool = True,
    ) -> tuple[Float[Tensor, " n"], Gradients | None]:
        """Score every image, and accumulate the gradients of minus the scores in the job's leaf tensors.

        Args:
            done: Fraction of the render that is done, in [0, 1].
            redirect: Images whose gradients are redirected through inactive units; `None` for none of them.
            want_gradients: Report which images and views get a gradient. This waits for the device.
            graph: Replay the passes of the network as a CUDA graph where possible.

        Returns:
            The score of each image, and which images got a gradient (`None` if that is not wanted).

        Raises:
            RenderError: Not even the smallest chunk fits in memory, or no gradient can reach the images.
        """
        if not self._split_once:
            chunk_size = self._job.execution.chunk_size or fitting_chunk_size(self._job, self._forward)
            self._all = self._split(self._all[0], chunk_size) if chunk_size else self._all
            self._split_once = True
        scores: list[Tensor] = []
        gradients: list[Gradients] = []
        i = 0
        while i < len(self._all):
            chunk = self._all[i]
            try:
                wanted = None if redirect is None else redirect[chunk.rows]
                chunk_scores, reached = self._backward(chunk, done, wanted, want_gradients, graph)
                scores.append(chunk_scores)
                gradients += [] if reached is None else [reached]
                i += 1
                continue
            except (RuntimeError, MemoryError) as error:  # handled outside: its traceback keeps tensors alive
                if not is_out_of_memory(error):
                    raise
            chunk.draws.restart()  # the smaller chunks get the same random draws
            smaller = self._split(chunk, max(1, len(chunk) // 2))
            if len(smaller) == 1:
                several = f"{pluralize(len(chunk), 'image')} of {show_size(self._job.size)} px"
                raise RenderError(f"out of memory with {several}; give a smaller size, or --tile")
            log.warning("out of memory with %d images at a time; retrying with %d", len(chunk), len(smaller[0]))
            self._all[i : i + 1] = smaller
        return torch.cat(scores), Gradients.joined(gradients) if gradients else None

    @torch.no_grad()
    def score(self, view: View, leaves: Leaves, done: float) -> Float[Tensor, " n"]:
        """Score every image in one random draw of a view. The score is the mean over its tiles.

        Args:
            view: How the network sees the images.
            leaves: The leaf tensors of all images, as they are at the start or now.
            done: Fraction of the render that is done, in [0, 1].
        """
        job, scores = self._job, []
        # Larger tiles than those of the render are not known to fit in memory beside others.
        larger = math.prod(view.tile) > math.prod(job.view.tile)
        chunks = [small for chunk in self._all for small in self._split(chunk, 1)] if larger else self._all
        for chunk in chunks:
            images = job.images(job.rows_of(leaves, chunk.rows))
            chunk.draws.settle()
            views, move = view.transformed(images, new_draws(chunk.draws.rng))
            tiles = [
                self._score(tile.cut(views), images, _then(move, tile), chunk.rows, done)
                for tile in view.tiles_of(views)
            ]
            scores.append(torch.stack(tiles).mean(0))
        return torch.cat(scores)

    @property
    def obstacle(self) -> str:
        """Why images do not run in one pass; empty if they do."""
        if len(self._all) > 1:
            return "the batch is split"
        return "the views are cut into tiles" if len(self._job.view.tiles) > 1 else ""

    @property
    def draws(self) -> StepDraws:
        """Draws of the transforms where all images run in one pass."""
        return self._all[0].draws

    def gradients(
        self, draw: DrawFunction, done: Tensor, redirect: Bool[Tensor, " n"] | None
    ) -> tuple[Float[Tensor, " n"], tuple[Tensor, ...]]:
        """Score all images in one pass, and return the scores and the gradients of minus the scores.

        Args:
            draw: Returns the draws of each transform in turn.
            done: Fraction of the render that is done, in [0, 1].
            redirect: Images whose gradients are redirected through inactive units; `None` for none of them.
        """
        job, rows = self._job, self._all[0].rows
        # Other tensors with the same memory. The autograd nodes of the leaf tensors may belong to another stream.
        leaves = [leaf.detach().requires_grad_(leaf.requires_grad) for leaf in job.leaves]
        images = job.images(leaves)
        views, move = job.view.transformed(images, draw)
        check_differentiable(views, BLOCKED)
        scores = self._score(views, images, move, rows, done, redirect)
        check_differentiable(scores, NOT_DIFFERENTIABLE)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        return scores.detach(), torch.autograd.grad(-scores.sum(), wanted, allow_unused=True)

    def _score(
        self,
        seen: Tensor,
        images: Tensor,
        move: MoveMasks,
        rows: slice,
        done: float | Tensor,
        redirect: Tensor | None = None,
        *,
        graph: bool = False,
    ) -> Float[Tensor, " n"]:
        """Run the network on views, or on one tile of them, and score the images."""
        job = self._job
        acts = self._forward(seen, redirect=redirect, graph=graph, rows=rows)
        acts = acts.of(images, done=done, move_masks=move, has_alpha=job.has_alpha, **job.packing)
        return job.scores(acts, rows)

    def _backward(
        self, chunk: Chunk, done: float, redirect: Tensor | None, want_gradients: bool, graph: bool
    ) -> tuple[Tensor, Gradients | None]:
        job, rows = self._job, chunk.rows
        is_whole = len(chunk) == len(job.seeds)
        leaves = job.leaves if is_whole else [leaf.detach()[rows].requires_grad_() for leaf in job.leaves]
        images = job.images(leaves)
        views, move = job.view.transformed(images, chunk.draws.next())
        check_differentiable(views, BLOCKED)
        if want_gradients:
            views.retain_grad()
            images.retain_grad()

        def score(seen: Tensor, images: Tensor, move: MoveMasks) -> Tensor:
            scores = self._score(seen, images, move, rows, done, redirect, graph=graph)
            return check_differentiable(scores, NOT_DIFFERENTIABLE)

        if len(job.view.tiles) == 1:
            scores = score(views, images, move)
            (-scores.sum()).backward(inputs=leaves)  # an objective may read weights of the user's that need gradients
        else:
            scores = _backward_by_tiles(score, job.view.tiles_of(views), views, images, leaves, move)
        if not is_whole:
            _copy_gradients(leaves, job.leaves, rows)
        return scores.detach(), Gradients.of(images, views) if want_gradients else None

    def _split(self, chunk: Chunk, chunk_size: int) -> list[Chunk]:
        """Cut a chunk into smaller ones without separating images that are compared with each other."""
        first, cuts = chunk.rows.start, [chunk.rows.start]
        for group in self._job.groups:
            if cuts[-1] < group.start < chunk.rows.stop and group.stop - cuts[-1] > chunk_size:
                cuts.append(group.start)
        bounds, draws = pairwise([*cuts, chunk.rows.stop]), chunk.draws
        return [
            Chunk(slice(low, high), StepDraws(draws.stack, draws.rng[low - first : high - first], draws.left))
            for low, high in bounds
        ]


def _copy_gradients(leaves: Sequence[Tensor], whole: Sequence[Tensor], rows: slice) -> None:
    """Write the gradients of a chunk's tensors into those of the whole batch."""
    for target, own in zip(whole, leaves, strict=True):
        if own.grad is not None:
            target.grad = torch.zeros_like(target) if target.grad is None else target.grad
            target.grad[rows] = own.grad


def _backward_by_tiles(
    score: Callable[[Tensor, Tensor, MoveMasks], Tensor],
    tiles: Sequence[Tile],
    views: Float[Tensor, "n c *size"],
    images: Float[Tensor, "n c2 *size2"],
    leaves: Leaves,
    move: MoveMasks,
) -> Float[Tensor, " n"]:
    """Run forward and backward for one tile after another, so that memory holds one tile at a time.

    The gradient of each tile is collected in a tensor of the size of the views, which is then propagated through the
    transforms and the param once. Overlapping tiles are blended: their weights add up to 1 in each pixel.

    Args:
        score: Scores one tile of the views, given the images and how masks move with them.
        tiles: The tiles of a view.
        views: What the network sees of the images.
        images: The images before any transform.
        leaves: The tensors of the param.
        move: Moves masks as the images were moved.

    Returns:
        The mean score over the tiles.
    """
    image, collected = images.detach().requires_grad_(), torch.zeros_like(views)
    scores = torch.zeros(len(views), device=views.device)
    for tile in tiles:
        seen = tile.cut(views.detach()).clone().requires_grad_()
        share = score(seen, image, _then(move, tile)) / len(tiles)
        (-share.sum()).backward(inputs=[seen, image])
        if seen.grad is not None:
            # Objectives are means over a tile. Overlaps make the tiles' area larger than the view's, so each counts
            # for more than its share of the mean over the view; this factor makes up for it.
            overlap = len(tiles) * seen[0, 0].numel() / views[0, 0].numel()
            tile.cut(collected).add_(seen.grad * (overlap * tile.weights).to(seen.grad, non_blocking=True))
        scores += share.detach()
    if image.grad is None:
        views.backward(collected, inputs=leaves)
    else:
        torch.autograd.backward((views, images), (collected, image.grad), inputs=leaves)
    return scores


def _then(move: MoveMasks, tile: Tile) -> MoveMasks:
    return lambda masks: tile.cut(move(masks))
