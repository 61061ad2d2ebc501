"""Find networks whose output for an image depends on the other images of the batch."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding
from featviz.apps.shared.arguments.probe import noise
from featviz.network import OUTPUT

TOLERANCE = 0.02
"""Largest change of an output, relative to its largest value, that rounding in half precision explains."""


def check_batch(network: fv.Network, _images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report an output that depends on other images, as with batch normalisation without running statistics.

    Renders of such a network depend on how many images run together.
    """
    if network.probed.draws or network.given_count is not None or not network.table:
        return
    layer = OUTPUT if OUTPUT in network.table else list(network.table)[-1]
    images = noise(network, 2)
    images[1] *= 0.2  # statistics of the batch differ from those of its first image
    alone = network.capture(images[:1], [layer]).channels_first(layer)[0]
    beside = network.capture(images, [layer]).channels_first(layer)[0]
    if (alone - beside).abs().max() > TOLERANCE * alone.abs().max():
        text = "the output for an image depends on the other images of its batch, so renders depend on the chunk size"
        yield Finding("batch", text, "give normalisations running statistics, or render with Execution(chunk_size=1)")
