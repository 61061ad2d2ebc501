"""Chance without global state: every image of a batch has a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

POOL = 1024
"""Uniform numbers drawn ahead for each image, so that a step of the loop costs no Python work per image."""


class Generators:
    """One `torch.Generator` for each image, so that a picture does not depend on its neighbours.

    Numbers come from the CPU whatever the device, so a seed starts the same picture everywhere.

    Args:
        seeds: one for each image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._each = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._pool = torch.empty(len(seeds), 0)
        self._used = 0
        self._mark: tuple[Tensor, int] | None = None
        self._states: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._each)

    def __getitem__(self, some: slice) -> Generators:
        """Return the generators of some of the images, which go on drawing where these are."""
        part = Generators(())
        part._each, part._pool, part._used = self._each[some], self._pool[some], self._used
        return part

    def mark(self) -> None:
        """Remember this moment, for `rewind`."""
        self._mark, self._states = (self._pool, self._used), []

    def rewind(self) -> None:
        """Go back to the last `mark`: what was drawn since will be drawn again."""
        if self._mark:
            self._pool, self._used = self._mark
        for each, state in zip(self._each, self._states, strict=False):
            each.set_state(state)

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers from [0, 1), shape `(n, *shape)`."""
        count = math.prod(shape)
        if self._used + count > self._pool.shape[1]:
            self._pool = torch.stack([torch.rand(max(POOL, count), generator=each) for each in self._leaving()])
            self._used = 0
        self._used += count
        return self._pool[:, self._used - count : self._used].reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw numbers of mean 0 and deviation 1, shape `(n, *shape)`."""
        return torch.stack([torch.randn(shape, generator=each) for each in self._leaving()])

    def _leaving(self) -> list[torch.Generator]:
        """Return the generators, which are about to move on from where they were marked."""
        if self._mark and not self._states:
            self._states = [each.get_state() for each in self._each]
        return self._each


def global_sources(device: torch.device) -> list[torch.Generator]:
    """Return the generators that whatever runs on a device may draw from without being given one."""
    first = device.index or 0
    more = torch.cuda.default_generators[first : first + 1] if device.type == "cuda" else ()
    return [torch.default_generator, *more]


class Chance:
    """Random numbers for a network that takes some as it runs: its own, always the same, and none of the caller's.

    Args:
        device: where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._sources = global_sources(device)
        self._first = [torch.Generator(source.device).manual_seed(0).get_state() for source in self._sources]
        self._states = self._first

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Go on where the last time ended; afterwards the caller's numbers go on where they were."""
        kept = [source.get_state() for source in self._sources]
        try:
            self._set(self._states)
            yield
        finally:
            self._states = [source.get_state() for source in self._sources]
            self._set(kept)

    @property
    def used(self) -> bool:
        """Whether any number was taken."""
        return not all(map(torch.equal, self._states, self._first))

    def _set(self, states: Sequence[Tensor]) -> None:
        for source, state in zip(self._sources, states, strict=True):
            source.set_state(state)
