"""Directions in the activation space of a layer: linear combinations of its channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number, check_position
from featviz.errors import AddressError, SettingError, shown
from featviz.interfaces import Position, Traits, show_size
from featviz.io.array import Array, Numbers
from featviz.network.activations import Activations
from featviz.objectives.algebra import Unit

MIN_COSINE = 0.1
"""Lower bound of the cosine, so that activations that point away from the direction still have a gradient.

Source: Lucid, lucid/optvis/objectives.py, `_dot_cossim`.
"""
MIN_LENGTH = 1e-4
"""Smallest length that a cosine divides by, as a fraction of the largest one of the image."""


class _VectorDirection(Unit):
    """A direction with one number per channel."""

    vector: Numbers
    power: float

    def __post_init__(self) -> None:
        """Convert the vector to a value that a recipe can hold, and check the fields."""
        super().__post_init__()
        object.__setattr__(self, "vector", _as_array(self.vector, "vector", ["channels"]))
        _check_power(self.power)


@dataclass(frozen=True)
class Direction(_VectorDirection):
    """A linear combination of channels, averaged over all positions: mean of dot · max(0.1, cosine)^power.

    `dot` is the dot product of the vector and the activations of all channels at one position; `cosine` is the cosine
    of their angle. The score is unbounded and scales with the length of the vector.

    Args:
        layer: Dotted module name.
        vector: One number per channel; numbers, an array or a tensor.
        power: Weight of the angle, >= 0. With 0 the score is the dot product, which rewards strong activations; 2 to 4
            also suppress other features.

    Raises:
        SettingError: The vector is not one-dimensional, or the power is negative.

    Source: Lucid, lucid/optvis/objectives.py, `direction`.
    """

    layer: str
    vector: Numbers
    power: float = 0.0

    @classmethod
    def whitened(cls, layer: str, vector: Numbers, inverse_covariance: Numbers, power: float = 0.0) -> Direction:
        """Return a direction with the correlations of the channels removed: inverse covariance times vector.

        Channels that are active in every image would otherwise dominate the dot product.

        Args:
            layer: Dotted module name.
            vector: One number per channel.
            inverse_covariance: (channels, channels), of the activations over natural images, centred or not.
            power: Weight of the angle, as for `Direction`.

        Returns:
            The direction.

        Raises:
            SettingError: The matrix does not have one row and one column per number of the vector.

        Source: Carter et al. 2019, https://doi.org/10.23915/distill.00015, "whitened" directions.
        """
        direction, inverse = Array.of(vector).tensor, Array.of(inverse_covariance).tensor
        if inverse.shape != (*direction.shape, *direction.shape):
            expected = tuple(direction.shape) * 2
            raise SettingError(
                f"inverse_covariance must have shape {expected} to match the vector, got {tuple(inverse.shape)}"
            )
        return cls(layer, Array.of(inverse @ direction), power)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean over positions.

        Raises:
            AddressError: The layer has another number of channels.
        """
        values = acts.channels_first(self.layer)
        _check_shape(self.layer, values.shape[1:2], self.vector)
        vector = self.vector.tensor.to(values, non_blocking=True)[:, None]
        return _dot_cosine(values.unsqueeze(-1).flatten(2), vector, self.power).mean(1)


@dataclass(frozen=True)
class DirectionNeuron(_VectorDirection):
    """A linear combination of channels at one position: dot · max(0.1, cosine)^power.

    `dot` and `cosine` are as for `Direction`. The score is unbounded and scales with the length of the vector.

    Args:
        layer: Dotted module name.
        vector: One number per channel; numbers, an array or a tensor.
        at: Row and column in the feature map or patch grid, or one index for signals, three for volumes and video;
            `"center"`; or a token off the grid, `"cls"` or `"reg0"`.
        power: Weight of the angle, >= 0, as for `Direction`.

    Raises:
        SettingError: The vector is not one-dimensional, or the power is negative.

    Source: Lucid, lucid/optvis/objectives.py, `direction_neuron`.
    """

    layer: str
    vector: Numbers
    at: Position = "center"
    power: float = 0.0

    def __post_init__(self) -> None:
        """Convert the vector and the position, and check the fields."""
        super().__post_init__()
        object.__setattr__(self, "at", check_position("at of DirectionNeuron", self.at))

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the score at the position.

        Raises:
            AddressError: The layer has no such position, or another number of channels.
        """
        values = acts.at(self.layer, self.at)
        _check_shape(self.layer, values.shape[1:], self.vector)
        return _dot_cosine(values, self.vector.tensor.to(values, non_blocking=True), self.power)


@dataclass(frozen=True)
class TensorDirection(Unit):
    """A direction of its own for each position of a feature map: mean over positions of dot · max(0.1, cosine)^power.

    `dot` and `cosine` are those of the whole tensor and the activations that it covers. The score is unbounded and
    scales with the length of the tensor.

    Args:
        layer: Dotted module name of a feature map.
        tensor: (channels, rows, columns), or `(channels, *positions)` for signals and volumes; numbers, an array or a
            tensor. If it is smaller than the feature map, it covers the map's centre.
        power: Weight of the angle, >= 0, as for `Direction`.

    Raises:
        SettingError: The tensor has not two to four dimensions, or the power is negative.

    Source: Lucid, lucid/optvis/objectives.py, `tensor_direction`.
    Differs: the mean over positions instead of the sum.
    """

    layer: str
    tensor: Numbers
    power: float = 0.0

    def __post_init__(self) -> None:
        """Convert the tensor to a value that a recipe can hold, and check the fields."""
        super().__post_init__()
        array = Array.of(self.tensor)
        if not 2 <= len(array.shape) <= 4:
            raise SettingError(f"tensor must have the shape (channels, rows, columns), got {array.shape}")
        object.__setattr__(self, "tensor", array)
        _check_power(self.power)

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the score, divided by the number of positions.

        Raises:
            AddressError: The layer is not a feature map, is smaller, or has another number of channels.
        """
        values, own = _feature_map(acts, self.layer, "TensorDirection"), self.tensor.shape[1:]
        size = tuple(values.shape[2:])
        if len(own) != len(size) or any(side > most for side, most in zip(own, size, strict=True)):
            raise AddressError(
                f"tensor must have at most {show_size(size)} positions to fit into {self.layer!r}, got {show_size(own)}"
            )
        starts = [(most - side) // 2 for side, most in zip(own, size, strict=True)]
        parts: list[Any] = [slice(start, start + side) for start, side in zip(starts, own, strict=True)]
        center = values[(..., *parts)]
        _check_shape(self.layer, center.shape[1:], self.tensor)
        tensor = self.tensor.tensor.to(values, non_blocking=True).flatten()
        return _dot_cosine(center.flatten(1), tensor, self.power) / math.prod(own)


@dataclass(frozen=True)
class ActivationWeights(Unit):
    """A weighted sum over the channels of a feature map, averaged over positions.

    The score is the mean over the selected positions of Σ weight · activation over channels. It is unbounded.

    Args:
        layer: Dotted module name of a feature map.
        weights: (channels,), (rows, columns) or (channels, rows, columns), with the positions of the map for signals
            and volumes; numbers, an array or a tensor. Weights of positions are those of the selected patch, or of the
            whole map.
        at: Row and column of the one position that counts, or of the patch's top left corner; one index for signals,
            three for volumes and video; `None` for the whole map.
        patch: Rows and columns of the patch that starts at `at`, each >= 1; its length along each axis for signals and
            volumes. One position along each axis by default.

    Raises:
        SettingError: The weights or the patch have another shape, or a patch is given without `at`.

    Source: captum, captum/optim/_core/loss.py, `ActivationWeights`.
    Differs: the mean over positions instead of the sum, so that a weight suits maps of any size.
    """

    layer: str
    weights: Numbers
    at: tuple[int, ...] | None = None
    patch: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        """Convert the fields to values that a recipe can hold, and check them."""
        super().__post_init__()
        object.__setattr__(self, "weights", Array.of(self.weights))
        object.__setattr__(self, "at", None if self.at is None else _indices("at", self.at))
        patch = _indices("patch", self.patch)
        if self.at is not None and set(patch) == {1}:
            patch = (1,) * len(self.at)
        object.__setattr__(self, "patch", patch)
        if not 1 <= len(self.weights.shape) <= 4:
            raise SettingError(
                "weights must have shape (channels,), (rows, columns) or (channels, rows, columns), "
                f"got {self.weights.shape}"
            )
        if min(self.patch) < 1:
            raise SettingError(f"patch must be at least 1 x 1 positions, got {show_size(self.patch)}")
        if self.at is None and self.patch != (1, 1):
            raise SettingError(
                f"a patch of {show_size(self.patch)} positions needs at=(row, column), its top left corner"
            )
        if self.at is not None and len(self.patch) != len(self.at):
            raise SettingError(
                f"patch must have one length for each index of at, got {show_size(self.patch)} and at={self.at}"
            )

    @property
    def traits(self) -> Traits:
        """Depends on position, unless the weights are those of channels in the whole map."""
        return Traits(depends_on_position=self.at is not None or len(self.weights.shape) > 1)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the weighted sum over channels, averaged over positions.

        Raises:
            AddressError: The layer is not a feature map, has no such positions, or does not fit the weights.
        """
        values, weights = _feature_map(acts, self.layer, "ActivationWeights"), self.weights.tensor
        if self.at is not None:
            ends = tuple(first + length for first, length in zip(self.at, self.patch, strict=True))
            acts.at(self.layer, self.at)  # raises where the patch starts or ends outside of the map
            acts.at(self.layer, tuple(end - 1 for end in ends))
            inside: list[Any] = [slice(first, end) for first, end in zip(self.at, ends, strict=True)]
            values = acts.as_map(self.layer)[(..., *inside)]
        channels, *positions = values.shape[1:]
        ones = (1,) * len(positions)
        if weights.ndim == 1 and (len(positions) > 1 or len(weights) == channels):
            weights = weights.view(-1, *ones)
        if tuple(weights.shape) not in {(channels, *positions), tuple(positions), (channels, *ones)}:
            raise AddressError(
                f"weights must have shape {(channels,)}, {tuple(positions)} or {(channels, *positions)} to match "
                f"{self.layer!r}, got {self.weights.shape}"
            )
        return (values * weights.to(values, non_blocking=True)).sum(1).flatten(1).mean(1)


def _as_array(numbers: Numbers, name: str, dimensions: list[str]) -> Array:
    """Convert numbers to an array, and check that they have these dimensions."""
    array = Array.of(numbers)
    if len(array.shape) != len(dimensions):
        listed = ", ".join(dimensions) + "," * (len(dimensions) == 1)
        raise SettingError(f"{name} must have the shape ({listed}), got {array.shape}")
    return array


def _check_power(power: float) -> None:
    check_number("power", power, at_least=0, note="(default 0, the dot product)")


def _indices(name: str, numbers: Any) -> tuple[int, ...]:
    """Return one to three whole numbers, one for each axis."""
    found = None if isinstance(numbers, str) else check_position(f"{name} of ActivationWeights", numbers)
    if not isinstance(found, tuple):
        raise SettingError(f"{name} of ActivationWeights must be a whole number for each axis, got {shown(numbers)}")
    return found


def _check_shape(layer: str, shape: tuple[int, ...], direction: Array) -> None:
    if direction.shape != tuple(shape):
        raise AddressError(f"the direction must have shape {tuple(shape)} to match {layer!r}, got {direction.shape}")


def _feature_map(acts: Activations, layer: str, objective: str) -> Float[Tensor, "n channel *position"]:
    values, layout = acts.channels_first(layer), acts.layouts[layer]
    if values.ndim != 2 + layout.axes:
        raise AddressError(f"{objective} needs a feature map, and {layer!r} is not one; use Direction")
    return values


def _dot_cosine(values: Tensor, vector: Tensor, power: float) -> Tensor:
    """Return dot · max(MIN_COSINE, cosine)^power of values and vector along dimension 1."""
    dot = (values * vector).sum(1)
    if not power:
        return dot
    cosine = dot / lengths(values) / lengths(vector[None])[0]
    return dot * cosine.clamp(min=MIN_COSINE) ** power


def lengths(values: Float[Tensor, "n k *position"]) -> Float[Tensor, "n *position"]:
    """Return lengths along dimension 1 to divide by: at least `MIN_LENGTH` of the largest one of the image.

    A fixed minimum would make cosines of small activations smaller, and none would make gradients at 0 infinite.
    """
    found = values.norm(dim=1, dtype=torch.promote_types(values.dtype, torch.float32))  # half underflows
    largest = found.detach().flatten(1).amax(1) if found.ndim > 1 else found.detach()
    least = MIN_LENGTH * torch.where(largest > 0, largest, 1)
    return torch.maximum(found, least.view(-1, *[1] * (found.ndim - 1)))
