"""Distributions from which a transform draws one number for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError, shown
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

    Raises:
        SettingError: An end is not a finite number.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends."""
        check_number("low of Uniform", self.low)
        check_number("high of Uniform", self.high)

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
        check_number("low of LogUniform", self.low, above=0)
        check_number("high of LogUniform", self.high, above=0)

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
        SettingError: `values` is empty, or holds other values than numbers.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there are values, all of them numbers."""
        if not isinstance(self.values, tuple | list) or not self.values:
            raise SettingError(f"values of OneOf must hold at least one number, got {shown(self.values)}")
        object.__setattr__(self, "values", tuple(self.values))
        for value in self.values:
            check_number("each of the values of OneOf", value)

    @property
    def smallest(self) -> float:
        """The smallest number that may be drawn."""
        return min(self.values)

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return torch.tensor(self.values, dtype=torch.float32)[(rng.uniform() * len(self.values)).long()]
