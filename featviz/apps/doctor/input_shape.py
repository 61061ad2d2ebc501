"""Which images a network takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

import featviz as fv
from featviz.apps.doctor.findings import Finding, flags

CHANNELS = (3, 1, 4, 2, 6, 12, 13)
SIZES = (224, 32, 299, 384, 64, 28, 96, 128, 160, 256, 448, 512)
REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, fv.FeatvizError)
"""How modules refuse a shape."""


def input_shape(network: fv.Network) -> Iterator[Finding]:
    """Say which channels, size or layout the module takes, where it does not take what it is said to expect.

    Raises:
        Exception: the module's own, where no shape has a part in it.
    """
    refusal = _refusal(network)
    if refusal is None:
        return
    if isinstance(refusal, torch.OutOfMemoryError) or not isinstance(refusal, REFUSALS):
        raise refusal
    words = (str(refusal).strip() or type(refusal).__name__).splitlines()[0][:160]
    given = f"{network.channels} channels of {network.size[0]} x {network.size[1]} px"
    refused = f"it does not take {given} ({words})"
    always_the_same = bool(str(refusal))
    for other, cure in _others(network):
        answer = _refusal(other)
        if answer is None:
            yield Finding("input", refused, cure)
            return
        always_the_same = always_the_same and str(answer) == str(refusal)
    if always_the_same:
        raise refusal
    yield Finding("input", refused, "give what it was trained on: --size, --mean and --std")


def _others(network: fv.Network) -> Iterator[tuple[fv.Network, str]]:
    """Go through the network told other shapes, and the flags that tell it so."""
    every_channels = dict.fromkeys((network.channels, *CHANNELS))
    every_size = dict.fromkeys((network.size, *((side, side) for side in SIZES)))
    for layout, channels, size in product(("NCHW", "NHWC"), every_channels, every_size):
        mean, std = network.input.mean, network.input.std
        if channels != network.channels:
            mean, std = (0.5,) * channels, (0.5,) * channels
        cure = [f"--layout {layout}"] if layout != network.input.layout else []
        cure += [f"--size {size[0]}"] if size != network.size else []
        cure += [flags(mean, std)] if channels != network.channels else []
        yield network.with_input(size=size, mean=mean, std=std, layout=layout), " ".join(cure)


def _refusal(network: fv.Network) -> Exception | None:
    """Return what the module says against its input."""
    try:
        _ = network.probed
    except Exception as error:
        return error
    return None
