"""Directions in a layer's space: any mixture of its channels, everywhere, at one place or place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.errors import AddressError, SettingError
from featviz.interfaces import Place, Traits, as_place
from featviz.io.array import Array, Numbers
from featviz.network.activations import Activations
from featviz.objectives.algebra import Unit

FLOOR = 0.1
"""The least that a cosine counts, so that a picture that points elsewhere still has a gradient.

Source: Lucid, lucid/optvis/objectives.py, `_dot_cossim`.
"""
NEARLY = 1e-4
"""Kept away from 0 when dividing by a length. Source: as above."""


@dataclass(frozen=True)
class Direction(Unit):
    """A mixture of channels, averaged over all places.

    Args:
        layer: dotted module name.
        vector: one number for each channel; numbers, an array or a tensor.
        power: how much the angle matters: 0 is the dot product, which likes it loud; 2 to 4 want little else as well.

    Raises:
        SettingError: the vector is not one-dimensional, or the power below 0.

    Source: Lucid, lucid/optvis/objectives.py, `direction`.
    """

    layer: str
    vector: Numbers
    power: float = 0.0

    def __post_init__(self) -> None:
        """Take tensors, too."""
        _hold(self, "vector", 1)

    @classmethod
    def whitened(cls, layer: str, vector: Numbers, inverse_covariance: Numbers, power: float = 0.0) -> Direction:
        """Undo the channels' correlation first, so that what they all do at once does not drown the rest.

        Args:
            layer: dotted module name.
            vector: one number for each channel.
            inverse_covariance: of the channels' activations over natural images, uncentred or centred.
            power: as for `Direction`.

        Source: Carter et al. 2019, https://doi.org/10.23915/distill.00015, "whitened" directions.
        """
        mixture, inverse = Array.of(vector).tensor, Array.of(inverse_covariance).tensor
        if inverse.shape != (*mixture.shape, *mixture.shape):
            wanted = f"{tuple(mixture.shape)} needs an inverse covariance of {tuple(mixture.shape) * 2}"
            raise SettingError(f"a vector of shape {wanted}, not {tuple(inverse.shape)}")
        return cls(layer, Array.of(inverse @ mixture), power)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean over places of dot product times floored cosine to the power."""
        units = acts.channels_first(self.layer)
        _same(self.layer, units.shape[1:2], self.vector.shape)
        return _along(
            units.unsqueeze(-1).flatten(2), self.vector.tensor.to(units, non_blocking=True)[:, None], self.power
        ).mean(1)


@dataclass(frozen=True)
class DirectionNeuron(Unit):
    """A mixture of channels at one place.

    Args:
        layer: dotted module name.
        vector: one number for each channel; numbers, an array or a tensor.
        at: row and column of the map (or of the patch grid), `"center"`, or `"cls"` for a transformer's class token.
        power: as for `Direction`.

    Raises:
        SettingError: the vector is not one-dimensional, or the power below 0.

    Source: Lucid, lucid/optvis/objectives.py, `direction_neuron`.
    """

    layer: str
    vector: Numbers
    at: Place = "center"
    power: float = 0.0

    def __post_init__(self) -> None:
        """Take tensors, too."""
        _hold(self, "vector", 1)
        object.__setattr__(self, "at", as_place(self.at))

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return dot product times floored cosine to the power."""
        units = acts.at(self.layer, self.at)
        _same(self.layer, units.shape[1:], self.vector.shape)
        return _along(units, self.vector.tensor.to(units, non_blocking=True), self.power)


@dataclass(frozen=True)
class TensorDirection(Unit):
    """A whole pattern of activations: a direction of its own for each place.

    Args:
        layer: dotted module name, of a feature map.
        tensor: (channels, rows, columns); where it is smaller than the map, it stands in the map's middle.
        power: as for `Direction`, for the pattern as a whole.

    Raises:
        SettingError: the tensor is not three-dimensional, or the power below 0.

    Source: Lucid, lucid/optvis/objectives.py, `tensor_direction`.
    Differs: the mean over places instead of the sum.
    """

    layer: str
    tensor: Numbers
    power: float = 0.0

    def __post_init__(self) -> None:
        """Take tensors, too."""
        _hold(self, "tensor", 3)

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the dot product for each place, times floored cosine to the power."""
        units, (_, rows, columns) = acts.channels_first(self.layer), self.tensor.shape
        if units.ndim != 4 or rows > units.shape[2] or columns > units.shape[3]:
            found = " x ".join(map(str, units.shape[2:])) or "one place"
            raise AddressError(f"the tensor has {rows} x {columns} places, {self.layer!r} has {found}")
        top, left = (units.shape[2] - rows) // 2, (units.shape[3] - columns) // 2
        middle = units[:, :, top : top + rows, left : left + columns]
        _same(self.layer, middle.shape[1:], self.tensor.shape)
        return _along(middle.flatten(1), self.tensor.tensor.to(units, non_blocking=True).flatten(), self.power) / (
            rows * columns
        )


@dataclass(frozen=True)
class ActivationWeights(Unit):
    """A weighted sum of activations: by channel, by place, or both.

    Args:
        layer: dotted module name, of a feature map.
        weights: (channels,), or (rows, columns), or (channels, rows, columns); numbers, an array or a tensor.
        at: the row and column that count alone, or where the patch begins; `None` means all places.
        patch: rows and columns that count, from `at` on.

    Raises:
        SettingError: the weights have another shape, or there is a patch without a place to begin.

    Source: captum, captum/optim/_core/loss.py, `ActivationWeights`.
    Differs: a mean over the places that count, so that maps of any size give scores of one size.
    """

    layer: str
    weights: Numbers
    at: tuple[int, int] | None = None
    patch: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        """Take tensors, too."""
        object.__setattr__(self, "weights", Array.of(self.weights))
        object.__setattr__(self, "at", None if self.at is None else as_place(self.at))
        object.__setattr__(self, "patch", as_place(self.patch))
        if not 1 <= len(self.weights.shape) <= 3:
            raise SettingError(f"weights of shape {self.weights.shape}; give (channels,), (h, w) or (channels, h, w)")
        if min(self.patch) < 1:
            raise SettingError(f"a patch of {self.patch[0]} x {self.patch[1]} places is nothing; give 1 or more")
        if self.patch != (1, 1) and self.at is None:
            raise SettingError(f"a patch of {self.patch[0]} x {self.patch[1]} places needs a place to begin; give at=")

    @property
    def traits(self) -> Traits:
        """Depends on position, unless it weighs channels alone."""
        return Traits(depends_on_position=self.at is not None or len(self.weights.shape) > 1)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the weighted sum over channels, averaged over the places."""
        units, weights = acts.channels_first(self.layer), self.weights.tensor
        if units.ndim != 4:
            raise AddressError(f"{self.layer!r} is no feature map, so its places cannot be weighed; use Direction")
        if self.at is not None:
            (y, x), (rows, columns) = self.at, self.patch
            acts.at(self.layer, (y, x))
            acts.at(self.layer, (y + rows - 1, x + columns - 1))
            units = units[:, :, y : y + rows, x : x + columns]
        if weights.ndim == 1:
            weights = weights[:, None, None]
        if tuple(weights.shape) not in {tuple(units.shape[1:]), tuple(units.shape[2:]), (units.shape[1], 1, 1)}:
            raise AddressError(f"weights of shape {self.weights.shape} for {tuple(units.shape[1:])} of {self.layer!r}")
        return (units * weights.to(units, non_blocking=True)).sum(1).flatten(1).mean(1)


def _hold(direction: Any, name: str, dimensions: int) -> None:
    numbers = Array.of(getattr(direction, name))
    object.__setattr__(direction, name, numbers)
    if len(numbers.shape) != dimensions:
        raise SettingError(f"a {name} of shape {numbers.shape}; it needs {dimensions} dimensions, channels first")
    if direction.power < 0:
        raise SettingError(f"power {direction.power} is below 0; give 0 for the dot product, 2 for a narrow angle")


def _same(layer: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(found) != wanted:
        raise AddressError(f"a direction of {wanted} in {layer!r}, which has {tuple(found)}; give one of that shape")


def _along(units: Tensor, vector: Tensor, power: float) -> Tensor:
    """Return dot x cosine^power along dimension 1."""
    dot = (units * vector).sum(1)
    if not power:
        return dot
    cosine = dot / (NEARLY + units.norm(dim=1)) / (NEARLY + vector.norm(dim=0))
    return dot * cosine.clamp(min=FLOOR) ** power
