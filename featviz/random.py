"""Random numbers without global state: every image of a batch has a seed of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size

T = TypeVar("T")
Kind = Literal["uniform", "normal"]
"""Kind of random numbers."""

_global_state = RLock()
"""Held while the global random state is replaced, so that threads do not restore each other's."""
UNIFORM_POOL_SIZE = 1024
"""Uniform numbers that are drawn ahead for each image, so that most steps need no Python call per image."""


class Generators:
    """One `torch.Generator` per image, so that an image does not depend on the others of its batch.

    Numbers are drawn on the CPU for every device, so that a seed gives the same start everywhere.

    Args:
        seeds: One seed per image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._pool = torch.empty(len(seeds), 0)
        self._used = 0
        self._marked: tuple[Tensor, int] | None = None
        self._marked_states: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._generators)

    def __getitem__(self, some: slice) -> Generators:
        """Return the generators of some of the images, which continue where these are now."""
        part = Generators(())
        part._generators, part._pool, part._used = self._generators[some], self._pool[some], self._used
        return part

    def mark(self) -> None:
        """Remember the current state for `rewind`."""
        # The generators' own states are copied only when one of them is used: most steps read the pool alone.
        self._marked, self._marked_states = (self._pool, self._used), []

    def rewind(self) -> None:
        """Return to the state at the last `mark`, so that the same numbers are drawn again."""
        if self._marked:
            self._pool, self._used = self._marked
        for generator, state in zip(self._generators, self._marked_states, strict=False):
            generator.set_state(state)

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers.

        Args:
            *shape: Shape of the numbers of each image.

        Returns:
            Numbers in [0, 1), of shape `(n, *shape)`.
        """
        count = math.prod(shape)
        if self._used + count > self._pool.shape[1]:
            size = max(UNIFORM_POOL_SIZE, count)
            self._pool = torch.stack([torch.rand(size, generator=generator) for generator in self._advancing()])
            self._used = 0
        self._used += count
        return self._pool[:, self._used - count : self._used].reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw normally distributed numbers.

        Args:
            *shape: Shape of the numbers of each image.

        Returns:
            Numbers of mean 0 and standard deviation 1, of shape `(n, *shape)`.
        """
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._advancing()])

    def draw(self, kind: Kind, *shape: int) -> Tensor:
        """Draw numbers of a kind, as `uniform` and `normal` do."""
        return self.uniform(*shape) if kind == "uniform" else self.normal(*shape)

    def _advancing(self) -> list[torch.Generator]:
        """Return the generators to draw from, after copying their states once since the last `mark`."""
        if self._marked and not self._marked_states:
            self._marked_states = [generator.get_state() for generator in self._generators]
        return self._generators


def draw_steps(draw: Callable[[Generators], T], rng: Generators, steps: int) -> T:
    """Draw for several steps with one call of `draw`, which costs little more than drawing for one step.

    A first call records which random numbers one step takes. Numbers of the same kinds are taken for the other steps in
    the order of the steps, and `draw` is called once with all of them. Results equal those of drawing step by step.

    Args:
        draw: Makes the draws of one step. Those of an image may depend on its own numbers only.
        rng: One generator per image.
        steps: Number of steps, >= 1.

    Returns:
        The result of `draw` for `steps * n` images: first all images of the first step, then those of the second.

    Raises:
        ValueError: `draw` takes other numbers in its second call than in its first.
    """
    noted = _Noted(rng)
    draw(noted)
    taken = [[numbers] for _, _, numbers in noted.calls]
    for _ in range(steps - 1):
        for kept, (kind, shape, _) in zip(taken, noted.calls, strict=True):
            kept.append(rng.draw(kind, *shape))
    calls = [(kind, shape, torch.cat(kept)) for kept, (kind, shape, _) in zip(taken, noted.calls, strict=True)]
    return draw(_Prepared(calls, steps * len(rng)))


class _Noted(Generators):
    """Generators that note which numbers are drawn.

    Args:
        rng: What draws them.
    """

    def __init__(self, rng: Generators) -> None:
        super().__init__(())
        self._generators, self._rng = rng._generators, rng
        self.calls: list[tuple[Kind, tuple[int, ...], Tensor]] = []

    def uniform(self, *shape: int) -> Tensor:
        return self._note("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        return self._note("normal", shape)

    def _note(self, kind: Kind, shape: tuple[int, ...]) -> Tensor:
        numbers = self._rng.draw(kind, *shape)
        self.calls.append((kind, shape, numbers))
        return numbers


class _Prepared(Generators):
    """Generators that return numbers which are drawn already.

    Args:
        calls: Kind, shape and numbers of each call.
        count: Number of images.
    """

    def __init__(self, calls: Sequence[tuple[Kind, tuple[int, ...], Tensor]], count: int) -> None:
        super().__init__(())
        self._calls, self._count = iter(calls), count

    def __len__(self) -> int:
        return self._count

    def uniform(self, *shape: int) -> Tensor:
        return self._next("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        return self._next("normal", shape)

    def _next(self, *wanted: object) -> Tensor:
        *found, numbers = next(self._calls, (None, None, torch.empty(0)))
        if tuple(found) != wanted:
            raise ValueError("the draws of a transform take other numbers in each call")
        return numbers


class Source(Protocol):
    """A global generator of random numbers."""

    def get_state(self) -> Any:
        """Return its state."""

    def set_state(self, state: Any) -> object:
        """Replace its state.

        Args:
            state: As `get_state` or `state_of` returns it.
        """

    def state_of(self, seed: int) -> Any:
        """Return its state after a start from a seed, without changing it.

        Args:
            seed: The seed.
        """


@dataclass(frozen=True)
class _TorchSource:
    """A global generator of PyTorch."""

    generator: torch.Generator

    def get_state(self) -> Tensor:
        return self.generator.get_state()

    def set_state(self, state: Tensor) -> None:
        self.generator.set_state(state)

    def state_of(self, seed: int) -> Tensor:
        return torch.Generator(self.generator.device).manual_seed(seed).get_state()


class _PythonSource:
    """The global generator of the module `random`."""

    def get_state(self) -> object:
        return random.getstate()

    def set_state(self, state: Any) -> None:
        random.setstate(state)

    def state_of(self, seed: int) -> object:
        return random.Random(seed).getstate()


class _NumpySource:
    """The global generator of `numpy.random`. Its states are compared, so they hold bytes and no array."""

    def get_state(self) -> tuple[object, ...]:
        return _as_bytes(np.random.get_state(legacy=True))

    def set_state(self, state: Any) -> None:
        name, keys, *rest = state
        np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))

    def state_of(self, seed: int) -> tuple[object, ...]:
        return _as_bytes(np.random.RandomState(seed).get_state(legacy=True))


def _as_bytes(state: Any) -> tuple[object, ...]:
    name, keys, *rest = state
    return name, np.asarray(keys).tobytes(), *rest


def global_sources(device: torch.device) -> list[Source]:
    """Return the global generators from which code on a device may draw.

    Args:
        device: Where the code runs.

    Returns:
        PyTorch's generator of the CPU, and that of the device if it is a CUDA GPU; those of Python and NumPy. That of
        NumPy is left out if it was replaced by one of another kind.
    """
    index = device.index or 0
    more = torch.cuda.default_generators[index : index + 1] if device.type == "cuda" else ()
    is_usual = isinstance(np.random.get_bit_generator(), np.random.MT19937)  # type: ignore[attr-defined]
    numpy = [_NumpySource()] if is_usual else []
    return [*map(_TorchSource, (torch.default_generator, *more)), _PythonSource(), *numpy]


@contextmanager
def keep_global_state(device: torch.device) -> Iterator[list[Source]]:
    """Restore the caller's global random state at the end of a context, which no other thread of featviz enters.

    Args:
        device: Where the code in the context runs.

    Yields:
        The generators of `global_sources`, which the context may seed.
    """
    sources = global_sources(device)
    with _global_state:
        callers = [source.get_state() for source in sources]
        try:
            yield sources
        finally:
            _set_states(sources, callers)


def _set_states(sources: Sequence[Source], states: Sequence[Any]) -> None:
    for source, state in zip(sources, states, strict=True):
        source.set_state(state)


def _is_same_state(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


class Chance:
    """A reproducible global random state for networks that draw random numbers as they run.

    Call it for a context in which the generators of `global_sources` start from seed 0, and continue in each further
    context where the last one ended. Outside of these contexts the caller's random state is unchanged.

    Args:
        device: Where the network runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._initial = self._states = [source.state_of(0) for source in global_sources(device)]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Replace the global random state within a context, and restore the caller's at its end or after an error."""
        with keep_global_state(self._device) as sources:
            _set_states(sources, self._states)
            try:
                yield
            finally:
                self._states = [source.get_state() for source in sources]

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Go back at the end of a context, so that passes in it do not change what later ones draw."""
        states = self._states
        try:
            yield
        finally:
            self._states = states

    @property
    def used(self) -> bool:
        """Whether the network has drawn any number."""
        return not all(map(_is_same_state, self._states, self._initial))


def noise_images(count: int, channels: int, size: Size) -> Float[Tensor, "count channel *size"]:
    """Return images of uniform noise in [0, 1] on the CPU, the same at each call.

    Args:
        count: Number of images.
        channels: Number of channels.
        size: Length of each axis in px.
    """
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0))
