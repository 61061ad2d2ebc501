"""Check that the activations of photographs are finite."""

from __future__ import annotations

from torch import Tensor

import featviz as fv


def check_finite(values: Tensor, network: fv.Network, layer: str) -> Tensor:
    """Return activations of photographs, all of which must be finite.

    Args:
        values: The activations, of any shape.
        network: The network.
        layer: Name of the layer; empty for the output.

    Raises:
        ModelError: One is NaN or infinite.
    """
    if not values.isfinite().all():
        raise fv.ModelError(
            f"layer {layer or 'logit'!r} of {network.label} outputs NaN or infinite numbers for these photographs; "
            "check its weights, mean and std, or choose an earlier layer"
        )
    return values
