"""What a network puts out at the end, and which name its classes go by."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding
from featviz.apps.shared.predictions import LOG_PROBABILITIES, LOGITS, PROBABILITIES, output_kind

NOT_LOGITS = {
    PROBABILITIES: "which hardly climb",
    LOG_PROBABILITIES: "which climb where other classes fall",
}
"""What is wrong with climbing what is no logit."""


def output(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    """Look at what it puts out at the end."""
    if "" not in network.heads:
        some = ", ".join(network.heads)
        yield Finding("output", f"those of {some}; address their classes as logit:NAME@{next(iter(network.heads))}")
        return
    if "" not in network.table:
        yield Finding(
            "output", "what it puts out is no map, tokens or vector; there are layers to address, but no logit:"
        )
        return
    noise = torch.rand(2, network.channels, *network.size, generator=torch.Generator().manual_seed(0))
    put = network.capture(noise, [""]).channels_first("").detach()
    if not put.isfinite().all():
        yield Finding("output", "it puts out what is no number", "check its weights, and --mean and --std")
    elif put.ndim != 2:
        yield Finding("output", f"it puts out {' x '.join(map(str, put.shape[1:]))} for an image; there is no logit:")
    elif (found := output_kind(network, "")) != LOGITS:
        before = _before_the_end(network, put.shape[1])
        cure = f"for logit:N give {before}:N" if before else "let the module return its logits"
        yield Finding("output", f"it puts out {found}, {NOT_LOGITS[found]}", cure)
    elif network.classes and len(network.classes) != put.shape[1]:
        count = f"{len(network.classes)} class names for {put.shape[1]} outputs"
        yield Finding("output", count, "give classes= in output order")
    else:
        yield Finding("output", f"{put.shape[1]} logits" + ("" if network.classes else ", without names"))


def _before_the_end(network: fv.Network, classes: int) -> str:
    """Return the last layer that puts out something for each class, as logits, if there is one."""
    each = [name for name, layer in network.table.items() if name and layer.channels == classes]
    vectors = [name for name in each if network.table[name].layout.kind == "vector"]
    return next((name for name in reversed(vectors) if output_kind(network, name) == LOGITS), "")
