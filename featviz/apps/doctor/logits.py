"""Check that the output is class logits, and that class names match it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding
from featviz.apps.shared.arguments.probe import noise
from featviz.network import OUTPUT

WHY_NOT = {
    "probabilities": "whose gradients vanish as they saturate",
    "log-probabilities": "which also rise where other classes fall",
}
"""Why an objective should not be a class output of this kind."""


def check_logits(network: fv.Network, _images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report the kind of the output, and how its classes are addressed."""
    if OUTPUT not in network.heads:
        heads = ", ".join(network.heads)
        yield Finding("output", f"logits of {heads}; address a class as logit:CLASS@{next(iter(network.heads))}")
        return
    if OUTPUT not in network.table:
        text = "no feature map, token sequence or vector; layers can be addressed, but not classes (logit:)"
        yield Finding("output", text)
        return
    with torch.no_grad():
        output = network.capture(noise(network, 2), [OUTPUT]).channels_first(OUTPUT)
    if not output.isfinite().all():
        yield Finding("output", "not finite", "check the weights, and --mean and --std")
    elif output.ndim != 2:
        shape = " x ".join(map(str, output.shape[1:]))
        yield Finding("output", f"{shape} per image; layers can be addressed, but not classes (logit:)")
    elif (kind := network.outputs_of()[1]) != "logits":
        layer = _logit_layer(network, output.shape[1])
        fix = f"use {layer}:N instead of logit:N" if layer else "return logits from the module"
        yield Finding("output", f"{kind}, {WHY_NOT[kind]}", fix)
    elif network.classes and len(network.classes) != output.shape[1]:
        text = f"{output.shape[1]} logits, but {len(network.classes)} class names"
        yield Finding("output", text, "give classes= with one name per output, in output order")
    else:
        yield Finding("output", f"{output.shape[1]} logits" + ("" if network.classes else ", without class names"))


def _logit_layer(network: fv.Network, classes: int) -> str:
    """Return the last layer that outputs one logit per class; empty if there is none."""
    names = [
        name
        for name, layer in network.table.items()
        if name and layer.channels == classes and layer.layout.kind == "vector"
    ]
    return next((name for name in reversed(names) if network.outputs_of(name)[1] == "logits"), "")
