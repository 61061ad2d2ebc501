"""Distributions from which a transform draws one number for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.random import Generators


@runtime_checkable
class Distribution(Protocol):
    """A distribution of numbers. May also have `smallest`; see `Bounded`.

    `Uniform`, `LogUniform` and `OneOf` are those of featviz.
    """

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image.

        Args:
            rng: Random numbers, one generator per image.

        Returns:
            One number per image.
        """


@runtime_checkable
class Bounded(Protocol):
    """A distribution that knows the smallest number that it may draw, so that transforms can check their range."""

    @property
    def smallest(self) -> float:
        """The smallest number that may be drawn."""


def smallest_of(value: Distribution | float) -> float | None:
    """Return the smallest number that may be drawn.

    Args:
        value: A number or a distribution.

    Returns:
        The number itself, or the property `smallest` of the distribution; `None` for a distribution without it.
    """
    if isinstance(value, Bounded):
        return value.smallest
    return None if isinstance(value, Distribution) else value


def sample(distribution: Distribution | float, rng: Generators) -> Float[Tensor, " n"]:
    """Draw one number for each image.

    Args:
        distribution: What to draw from; a number is returned for every image.
        rng: Random numbers, one generator per image.

    Returns:
        One number per image.
    """
    if isinstance(distribution, Distribution):
        return distribution.sample(rng)
    return torch.full((len(rng),), float(distribution))


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution on [low, high].

    Args:
        low: One end.
        high: The other end.
    """

    low: float
    high: float

    @property
    def smallest(self) -> float:
        """The smallest number that may be drawn."""
        return min(self.low, self.high)

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return self.low + (self.high - self.low) * rng.uniform()


@dataclass(frozen=True)
class LogUniform:
    """A distribution on [low, high] whose logarithm is uniform, so that every doubling is equally likely.

    Args:
        low: One end, > 0.
        high: The other end, > 0.

    Raises:
        SettingError: An end is out of its range.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends."""
        if min(self.low, self.high) <= 0:
            raise SettingError(f"low and high of LogUniform must be > 0, got {self.low} and {self.high}")

    @property
    def smallest(self) -> float:
        """The smallest number that may be drawn."""
        return min(self.low, self.high)

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return self.low * (math.log(self.high / self.low) * rng.uniform()).exp()


@dataclass(frozen=True)
class OneOf:
    """A uniform distribution on the given numbers.

    Args:
        values: One or more numbers. A number that is given twice is twice as likely.

    Raises:
        SettingError: There are none.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there are values."""
        if not self.values:
            raise SettingError("values of OneOf must hold at least one number, got ()")

    @property
    def smallest(self) -> float:
        """The smallest number that may be drawn."""
        return min(self.values)

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return torch.tensor(self.values, dtype=torch.float32)[(rng.uniform() * len(self.values)).long()]
