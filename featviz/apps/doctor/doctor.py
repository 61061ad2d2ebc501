"""The look before the first picture: what makes networks give only noise, and the flag that cures each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.activations import activations
from featviz.apps.doctor.dead_units import starts
from featviz.apps.doctor.findings import Diagnosis, Finding
from featviz.apps.doctor.input_range import input_range
from featviz.apps.doctor.input_shape import input_shape
from featviz.apps.doctor.logits import output
from featviz.io import images_in, read_photograph

PICTURES = 64
"""How many photographs are looked at, at most, from all over the folder: in a row they may be of one class."""


def doctor(network: fv.Network, *, photographs: str | Path | None = None) -> Diagnosis:
    """Examine a network before anything is rendered: its input, its layers, its output.

    Whether the input range is right is told by the statistics that the first batch norms have kept, if there are, and
    by the answers to the photographs, if there are: a wrong range makes them vaguer or all alike.

    Args:
        network: as it would be given to `fv.render`.
        photographs: a folder of images of the kind that it was trained on; a few dozen are enough.

    Raises:
        OutputError: the folder is missing or holds no image.
    """
    wrong = list(input_shape(network))
    if wrong:
        return Diagnosis(tuple(wrong))
    images = None
    if photographs is not None:
        files = list(images_in(photographs))
        some = files[:: math.ceil(len(files) / PICTURES)]
        images = torch.stack([read_photograph(file, size=network.size, channels=network.channels) for file in some])
    checks: tuple[Callable[[fv.Network, Tensor | None], Iterator[Finding]], ...] = (
        output,
        input_range,
        _sizes,
        activations,
        starts,
    )
    return Diagnosis(tuple(finding for check in checks for finding in check(network, images)))


def _sizes(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    height, width = network.size
    if network.fixed_size:
        yield Finding("size", f"takes {height} x {width} px only; other pictures are seen at that size")
    else:
        yield Finding("size", f"takes squares from {network.smallest} px")
