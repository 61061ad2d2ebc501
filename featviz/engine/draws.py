"""The random draws of the transforms, made for many steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from featviz.interfaces import Shape, Transform
from featviz.network.trees import rebuilt
from featviz.random import Generators, draw_steps
from featviz.transforms.fusing import DrawFunction

BLOCK_STEPS = 64
"""Largest number of steps that are drawn at once."""
BLOCK_BYTES = 2**24
"""Largest size in bytes of the draws of these steps."""
COMPARED_STEPS = 6
"""Number of steps that are drawn one by one as well, to see whether that gives the same."""


@runtime_checkable
class Movable(Protocol):
    """A value other than a tensor that can be copied to a device."""

    def to(self, device: torch.device) -> Any:
        """Return a copy on a device.

        Args:
            device: Where to.
        """


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
        self._is_ahead: bool | None = None  # not known yet
        self._block, self._used = Block([], 0), 0
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
        found = self.ahead()
        self.left -= 1
        if found is None:
            self.rng.mark()
            return self._draw_now
        self._used += 1
        self._current = found[0].step(found[1])
        position = iter(range(len(self.stack)))
        return lambda transform, shape: self._take(next(position), transform, shape)

    def restart(self) -> None:
        """Return the generators to their state before the current step, so that others can draw it again.

        Afterwards only `stack`, `rng` and `left` are valid: the step is drawn by new values for fewer images each.
        """
        self._return()
        self.left += 1

    def settle(self) -> None:
        """Bring the generators into their state after the current step, as if no later one had been drawn."""
        if self._used < self._block.steps:
            self._redo(self._used)
            self._block, self._used = Block([], 0), 0

    def _return(self) -> None:
        """Return the generators to their state before the current step."""
        self._redo(self._used - 1 if self._is_ahead else 0)

    def _redo(self, steps: int) -> None:
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
            self._return()
            self._is_ahead = False
            self._block, self._used = Block([], 0), 0
            self.rng.mark()
            for before, known in zip(self.stack[:index], self._shapes, strict=False):
                before.draw(self.rng, known)
        return transform.draw(self.rng, shape)


# ---------------------------------------------------------------------------------------------- trees of tensors


def map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a value with each tensor in its tuples, lists and dicts replaced.

    Args:
        change: Returns what replaces a tensor.
        value: Tensors and plain values.

    Raises:
        TypeError: There is an object of another class, which may hold tensors, too.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return rebuilt(value, [map_tensors(change, each) for each in value])
    if isinstance(value, dict):
        return {key: map_tensors(change, each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is neither a tensor nor a plain value")


def move(value: Any, device: torch.device) -> Any:
    """Copy a value to a device, including tensors inside of tuples, lists and dicts.

    Args:
        value: Tensors, other movable and plain values.
        device: Where to.
    """
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Movable):
        return value.to(device)
    if isinstance(value, tuple | list):
        return rebuilt(value, [move(each, device) for each in value])
    return {key: move(each, device) for key, each in value.items()} if isinstance(value, dict) else value


def list_tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a value in order."""
    found: list[Tensor] = []
    map_tensors(found.append, value)
    return found


def same(one: Any, two: Any) -> bool:
    """Whether two values have the same structure, equal tensors and equal plain values."""
    if map_tensors(_kind, one) != map_tensors(_kind, two):
        return False
    return all(torch.equal(a, b) for a, b in zip(list_tensors(one), list_tensors(two), strict=True))


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def size_in_bytes(value: Any) -> int:
    """Return the size of the tensors of a value; 0 if it holds objects of other classes."""
    try:
        return sum(tensor.nbytes for tensor in list_tensors(value))
    except TypeError:
        return 0
