"""Examine a network before the first render, and name the options that fix what makes renders noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.activations import check_activations
from featviz.apps.doctor.batch import check_batch
from featviz.apps.doctor.dead_units import check_dead_units
from featviz.apps.doctor.findings import Diagnosis, Finding
from featviz.apps.doctor.gradient import check_gradient
from featviz.apps.doctor.input_shape import check_input_shape
from featviz.apps.doctor.logits import check_logits
from featviz.apps.doctor.normalisation import check_normalisation
from featviz.engine import entry_point
from featviz.io import images_in, read_photograph, warn_of_skipped

MAX_PHOTOGRAPHS = 64
"""Largest number of photographs that are read, spread over the folder: neighbours may be of one class."""

Check = Callable[[fv.Network, Float[Tensor, "n c h w"] | None], Iterator[Finding]]
"""Examines a network; the second argument are photographs in [0, 1], or `None`."""


@entry_point
def doctor(network: fv.Network, *, photographs: str | Path | None = None) -> Diagnosis:
    """Examine a network before the first render: its input, its layers and its output.

    A wrong normalisation is the usual reason for renders that look like noise. It shows in the running statistics of
    the first batch-norm layers, and in the predictions on photographs, which become vague or all alike.

    Args:
        network: The network as it would be given to `fv.render`.
        photographs: A folder of images of the kind that it was trained on; a few dozen are enough. `None` for none.

    Returns:
        The findings; `str` lists them.

    Raises:
        OutputError: The folder is missing, or has no image that can be read.

    Warns:
        FeatvizWarning: A photograph cannot be read; it is skipped.
    """
    wrong_shape = list(check_input_shape(network))
    if wrong_shape:
        return Diagnosis(tuple(wrong_shape))
    images = None
    if photographs is not None:
        images = torch.stack(list(_readable(network, Path(photographs))))
    return Diagnosis(tuple(finding for check in CHECKS for finding in check(network, images)))


def _readable(network: fv.Network, folder: Path) -> Iterator[Float[Tensor, "c h w"]]:
    """Yield some photographs of a folder, evenly spread over its files. A file that cannot be read is skipped.

    Raises:
        OutputError: The folder is missing, or has no image that can be read.
    """
    files = list(images_in(folder))
    some, reasons = files[:: math.ceil(len(files) / MAX_PHOTOGRAPHS)], []
    for file in some:
        try:
            yield read_photograph(file, size=network.size, channels=network.channels)
        except fv.FeatvizError as error:
            reasons.append(str(error))
            warn_of_skipped(file, str(error))
    if len(reasons) == len(some):
        raise fv.OutputError(f"no photograph of {folder} can be read: {reasons[0]}")


def check_sizes(network: fv.Network, _images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report which image sizes the network accepts."""
    height, width = network.size
    if network.fixed_size:
        yield Finding("size", f"accepts {height}x{width} px only; images of other sizes are resized to it")
    else:
        yield Finding("size", f"the smallest square it accepts is {network.smallest}x{network.smallest} px")


CHECKS: tuple[Check, ...] = (
    check_gradient,
    check_logits,
    check_normalisation,
    check_batch,
    check_sizes,
    check_activations,
    check_dead_units,
)
"""The checks in the order in which they run."""
