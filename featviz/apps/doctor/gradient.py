"""Check that a gradient reaches the image, without which nothing can be rendered."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding
from featviz.apps.shared.arguments.probe import grey
from featviz.errors import pluralize


def check_gradient(network: fv.Network, _images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report layers from which no gradient reaches the image."""
    with torch.enable_grad(), network.session(network.table) as forward:
        acts = forward(grey(network).requires_grad_())
    blocked = [name for name in network.table if not acts[name].requires_grad]
    if len(blocked) == len(network.table):
        fix = "let forward compute without torch.no_grad, torch.inference_mode, detach and numpy"
        yield Finding("gradient", "no gradient reaches the image from any layer", fix)
    elif blocked:
        layers = pluralize(len(blocked), "layer")
        text = f"no gradient reaches the image from {layers}, such as {blocked[-1] or 'the output'}"
        yield Finding("gradient", text, note=True)
