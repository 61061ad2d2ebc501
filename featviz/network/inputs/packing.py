"""Concatenate the images of several inputs into one signal, so that code for a single input handles several.

A signal of this kind has one channel, and the values of all images of one sample: of (3, 32, 32) and (1, 1000) a packed
signal has 4072 px.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError, shown
from featviz.interfaces import Shape, show_size
from featviz.network.inputs.input_spec import InputSpec


def join(images: Iterable[Float[Tensor, "n c *size"]]) -> Float[Tensor, "n 1 length"]:
    """Pack the images of several inputs, in order."""
    return torch.cat([each.flatten(1) for each in images], 1)[:, None]


def check_and_join(
    images: Mapping[str, Tensor], specs: Mapping[str, InputSpec], label: str
) -> Float[Tensor, "n 1 length"]:
    """Check images of several optimised inputs and pack them into one signal.

    Args:
        images: Images by name of the input, (n, c, *size).
        specs: Specification of each input.
        label: Name of the network, for messages.

    Returns:
        The signal.

    Raises:
        SettingError: Images are missing, or have another shape than the specification.
    """
    if not isinstance(images, Mapping) or set(images) != set(specs):
        given = shown(set(images) if isinstance(images, Mapping) else images)
        raise SettingError(f"{label} optimises {' and '.join(specs)}; images must be a dict by name, got {given}")
    for name, spec in specs.items():
        spec.check(images[name], f"the input {name!r}")
        if tuple(images[name].shape[2:]) != spec.size:
            size = show_size(spec.size)
            raise SettingError(f"images of {name!r} must be of {size} px, got {tuple(images[name].shape)}")
    if len({len(each) for each in images.values()}) > 1:
        counts = ", ".join(f"{name} {len(each)}" for name, each in images.items())
        raise SettingError(f"inputs must be for the same number of images, got {counts}")
    return join(images[name] for name in specs)


def split(packed: Float[Tensor, "n 1 length"], shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Unpack images: the inverse of `join`.

    Args:
        packed: The packed images.
        shapes: Channels and length of each axis of each input, in order.

    Raises:
        ValueError: They need another length.
    """
    lengths = [math.prod(shape) for shape in shapes.values()]
    if packed.shape[-1] != sum(lengths):
        raise ValueError(f"packed inputs must have length {sum(lengths)}, got {packed.shape[-1]}")
    parts = packed[:, 0].split(lengths, 1)
    return {name: part.reshape(len(packed), *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def packed_spec(specs: Iterable[InputSpec]) -> InputSpec:
    """Return the specification of packed inputs: one channel, in [0, 1], which the network gets as it is."""
    return InputSpec((packed_length(specs),), (0.0,), (1.0,), value_range=(0.0, 1.0))


def packed_length(specs: Iterable[InputSpec], times: int = 1) -> int:
    """Return the length of packed inputs, whose axes are `times` as long as those of the specifications."""
    return sum(math.prod(shape_of(spec, times)) for spec in specs)


def shape_of(spec: InputSpec, times: int = 1) -> Shape:
    """Return channels and length of each axis of an input, whose axes are `times` as long as in its specification."""
    return (spec.channels, *(times * side for side in spec.size))


def module_inputs(packed: Float[Tensor, "n 1 length"], specs: Mapping[str, InputSpec]) -> dict[str, Tensor]:
    """Return what the module gets of packed images: each input normalised by its own specification.

    Images whose axes are all twice as long are accepted, too: layers are told apart by how they grow with the input.

    Args:
        packed: The packed images in [0, 1].
        specs: Specification of each input, in order.

    Raises:
        ValueError: They have another length.
    """
    times = 2 if packed.shape[-1] == packed_length(specs.values(), 2) else 1
    images = split(packed, {name: shape_of(spec, times) for name, spec in specs.items()})
    return {name: _normaliser(specs[name], packed.device, packed.dtype)(each) for name, each in images.items()}


@lru_cache(maxsize=64)
def _normaliser(spec: InputSpec, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a normaliser, whose constants are copied to the device once."""
    with torch.inference_mode(False):
        normalise = spec.normaliser(torch.empty(0, device=device, dtype=dtype))
    return lambda images: normalise(images).contiguous()
