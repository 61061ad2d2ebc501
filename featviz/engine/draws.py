"""The random draws of the transforms, made for many steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from featviz.engine.tensor_trees import map_tensors, same, size_in_bytes
from featviz.interfaces import Shape, Transform
from featviz.random import Generators, draw_steps
from featviz.transforms.fusing import DrawFunction

BLOCK_STEPS = 64
"""Largest number of steps that are drawn at once."""
BLOCK_BYTES = 2**24
"""Largest size in bytes of the draws of these steps."""
COMPARED_STEPS = 6
"""Number of steps that are drawn one by one as well, to see whether that gives the same."""


@dataclass(frozen=True)
class Block:
    """The draws of several steps.

    Args:
        draws: The draws of each transform in turn: tensors with a row for each image of each step, and other values,
            possibly in tuples, lists and dicts.
        steps: Number of steps.
    """

    draws: list[Any]
    steps: int

    def step(self, index: int) -> list[Any]:
        """Return the draws of one step."""

        def rows(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (self.steps, -1))[index]

        return [map_tensors(rows, each) for each in self.draws]


class StepDraws:
    """Random draws of the transforms for some images, step by step.

    A call of PyTorch takes much longer than the arithmetic of a few small matrices, so the draws of a block of steps
    are made at once. They equal those of one step after another. Transforms whose draws would differ, for example
    because they draw the size of a view, are drawn step by step.

    Args:
        stack: The fused transforms.
        rng: One generator per image.
        steps: Number of steps that will be drawn.
    """

    def __init__(self, stack: Sequence[Transform], rng: Generators, steps: int) -> None:
        self.stack, self.rng, self.left = stack, rng, steps
        self._shapes: list[Shape] = []  # of the images that each transform gets in the first step
        self._bytes = 1  # of the draws of the first step
        # Whether blocks of steps are drawn ahead; `None` until the first step is drawn. If so, the mark of the
        # generators is at the start of the block, else at the start of the step.
        self._is_ahead: bool | None = None
        self._block, self._used = Block([], 0), 0  # `_used` counts the steps taken from the block
        self._current: list[Any] = []

    def ahead(self) -> tuple[Block, int] | None:
        """Return the block that holds the draws of the next step, and the step's index; `None` if there is none."""
        if self._is_ahead is None and len(self._shapes) == len(self.stack):
            self._is_ahead = self.left > COMPARED_STEPS and self._can_draw_ahead()
        if not self._is_ahead or not self.left:
            return None
        if self._used == self._block.steps:
            steps = min(self.left, BLOCK_STEPS, max(1, BLOCK_BYTES // self._bytes))
            self.rng.mark()
            self._block, self._used = self._draw_block(steps), 0
        return self._block, self._used

    def next(self) -> DrawFunction:
        """Begin the next step, and return a function that returns the draws of one transform after another."""
        position = self.ahead()
        self.left -= 1
        if position is None:
            self.rng.mark()
            return self._draw_now
        self._used += 1
        block, index = position
        self._current = block.step(index)
        indices = iter(range(len(self.stack)))
        return lambda transform, shape: self._take(next(indices), transform, shape)

    def restart(self) -> None:
        """Return the generators to their state before the current step, so that others can draw it again.

        Afterwards only `stack`, `rng` and `left` are valid: the step is drawn by new values for fewer images each.
        """
        self._rewind_step()
        self.left += 1

    def settle(self) -> None:
        """Bring the generators into their state after the current step, as if no later one had been drawn."""
        if self._used < self._block.steps:
            self._rewind_and_draw(self._used)
            self._block, self._used = Block([], 0), 0

    def _rewind_step(self) -> None:
        """Return the generators to their state before the current step."""
        self._rewind_and_draw(self._used - 1 if self._is_ahead else 0)

    def _rewind_and_draw(self, steps: int) -> None:
        """Return the generators to the last mark, which is before the block, and draw some steps of it again."""
        self.rng.rewind()
        for _ in range(steps):
            self._draw_all(self.rng)

    def _draw_all(self, rng: Generators) -> list[Any]:
        return [transform.draw(rng, shape) for transform, shape in zip(self.stack, self._shapes, strict=True)]

    def _draw_block(self, steps: int) -> Block:
        return Block(draw_steps(self._draw_all, self.rng, steps), steps)

    def _can_draw_ahead(self) -> bool:
        """Whether the draws of several steps at once equal those of one step after another."""
        self.rng.mark()
        try:
            one_by_one = [self._draw_all(self.rng) for _ in range(COMPARED_STEPS)]
            self.rng.rewind()
            block = self._draw_block(COMPARED_STEPS)
            return all(same(block.step(i), one_by_one[i]) for i in range(COMPARED_STEPS))
        except (TypeError, ValueError, RuntimeError):
            return False
        finally:
            self.rng.rewind()

    def _draw_now(self, transform: Transform, shape: Shape) -> Any:
        drawn = transform.draw(self.rng, shape)
        if self._is_ahead is None:
            self._shapes.append(shape)
            self._bytes += size_in_bytes(drawn)
        return drawn

    def _take(self, index: int, transform: Transform, shape: Shape) -> Any:
        if self._is_ahead and shape == self._shapes[index]:
            return self._current[index]
        if self._is_ahead:  # a transform has returned images of another size than in the first step
            self._rewind_step()
            self._is_ahead = False
            self._block, self._used = Block([], 0), 0
            self.rng.mark()
            for before, known in zip(self.stack[:index], self._shapes, strict=False):
                before.draw(self.rng, known)
        return transform.draw(self.rng, shape)
