"""Check that the module accepts the input that its specification describes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import featviz as fv
from featviz.apps.doctor.findings import Finding, normalisation_options
from featviz.errors import first_line
from featviz.network.out_of_memory import is_out_of_memory

CHANNELS = (3, 1, 4, 2, 6, 12, 13)
"""Numbers of channels to try, the most common first."""
SIZES = (224, 32, 299, 384, 64, 28, 96, 128, 160, 256, 448, 512)
"""Sides in px to try, the most common first."""
REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, fv.FeatvizError)
"""Exceptions with which modules refuse a shape; others are mistakes in the module."""
MAX_MESSAGE = 160
"""Largest number of characters that are quoted of a module's error."""


def check_input_shape(network: fv.Network) -> Iterator[Finding]:
    """Report which channels, size or layout the module accepts, if it refuses those of its specification.

    Raises:
        Exception: The module's own error, if no shape can be the reason: it is not in `REFUSALS`, it is about memory,
            or it stays the same for every shape.
    """
    refusal = _refusal(network)
    if refusal is None:
        return
    if is_out_of_memory(refusal) or not isinstance(refusal, REFUSALS):
        raise refusal
    own = refusal.__cause__ or refusal  # the module's, which an error of featviz may explain
    message = first_line(own)[:MAX_MESSAGE]
    given = f"{network.channels} channels of {network.size[0]}x{network.size[1]} px"
    text = f"the module does not accept {given} ({message})"
    always_the_same = bool(str(refusal))
    for other, fix in _alternatives(network):
        answer = _refusal(other)
        if answer is None:
            yield Finding("input", text, fix)
            return
        always_the_same = always_the_same and str(answer) == str(refusal)
    if always_the_same:
        raise refusal
    yield Finding("input", text, "give --input-size, --mean and --std as in training")


def _alternatives(network: fv.Network) -> Iterator[tuple[fv.Network, str]]:
    """Yield the network with other input shapes, and the options that set each of them."""
    all_channels = dict.fromkeys((network.channels, *CHANNELS))  # without duplicates, the present one first
    all_sizes = dict.fromkeys((network.size, *((side, side) for side in SIZES)))
    for layout, channels, size in product(("NCHW", "NHWC"), all_channels, all_sizes):
        mean, std = network.input.mean, network.input.std
        if channels != network.channels:
            mean, std = (0.5,) * channels, (0.5,) * channels
        fix = [f"--layout {layout}"] if layout != network.input.layout else []
        fix += [f"--input-size {size[0]}"] if size != network.size else []
        fix += [normalisation_options(mean, std)] if channels != network.channels else []
        yield network.with_input(size=size, mean=mean, std=std, layout=layout), " ".join(fix)


def _refusal(network: fv.Network) -> Exception | None:
    """Return the exception that the module raises on its input; `None` if it accepts it."""
    try:
        _ = network.probed
    except Exception as error:
        return error
    return None
