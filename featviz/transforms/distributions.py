"""How a transform's one number is spread over the images of a batch."""

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
class Spread(Protocol):
    """A distribution of numbers."""

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""


def sample(spread: Spread | float, rng: Generators) -> Float[Tensor, " n"]:
    """Draw from a spread; a number is always itself."""
    return spread.sample(rng) if isinstance(spread, Spread) else torch.full((len(rng),), float(spread))


def check_positive(what: object, spread: Spread | float) -> None:
    """Make sure that a factor is above 0, as far as its spread says what the least is.

    Raises:
        SettingError: it may be 0 or less.
    """
    match spread:
        case Uniform(low=low, high=high):
            least = min(low, high)
        case OneOf(values=values):
            least = min(values)
        case Spread():
            return
        case _:
            least = spread
    if not least > 0:
        raise SettingError(f"{what} leaves nothing; give a factor above 0, 1 is as it is")


@dataclass(frozen=True)
class Uniform:
    """Anything from `low` to `high`, all equally likely."""

    low: float
    high: float

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return self.low + (self.high - self.low) * rng.uniform()


@dataclass(frozen=True)
class LogUniform:
    """Anything from `low` to `high`, every doubling equally likely.

    Raises:
        SettingError: an end that is not above 0.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends."""
        if min(self.low, self.high) <= 0:
            raise SettingError(f"a log-uniform spread needs ends above 0, not {self.low} and {self.high}")

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return self.low * (math.log(self.high / self.low) * rng.uniform()).exp()


@dataclass(frozen=True)
class OneOf:
    """One of the given numbers, all equally likely; give one twice to make it likelier.

    Raises:
        SettingError: there are none.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there is something to choose."""
        if not self.values:
            raise SettingError("OneOf needs at least one number")

    def sample(self, rng: Generators) -> Float[Tensor, " n"]:
        """Draw one number for each image."""
        return torch.tensor(self.values, dtype=torch.float32)[(rng.uniform() * len(self.values)).long()]
