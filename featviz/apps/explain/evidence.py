"""Count the channels of a layer that contribute most to each class, over a folder of photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.cams import gradient_layer
from featviz.apps.explain.request import AttributionRequest
from featviz.apps.shared.activations.finite import check_finite
from featviz.apps.shared.activations.image_batches import SkippedFiles, image_batches
from featviz.apps.shared.arguments.classes import class_title
from featviz.apps.shared.arguments.inputs import inputs_in
from featviz.apps.shared.arguments.probe import noise
from featviz.engine import entry_point
from featviz.io import auto_bar
from featviz.network import OUTPUT, LayerLike

BATCH = 16
"""Number of photographs per batch."""
TABLE_CHANNELS = 5
"""Number of channels that the table shows per class."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """How often each channel was among the largest contributions to a predicted class, and how large they were.

    `print(evidence)` shows it as a table.

    Args:
        network: The network.
        layer: Name of the layer.
        photographs_per_class: Number of photographs that the network assigned to each class.
        count: Number of them in which each channel was among the largest contributions.
        contribution: Mean contribution of each channel to the class logit in these.
        skipped: The first files that could not be read, relative to the folder, and the reason.
    """

    network: fv.Network
    layer: str
    photographs_per_class: Float[Tensor, " classes"]
    count: Float[Tensor, "classes channels"]
    contribution: Float[Tensor, "classes channels"]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> Float[Tensor, "classes channels"]:
        """Count times mean contribution: how much each channel matters for each class."""
        return self.count * self.contribution

    def __repr__(self) -> str:
        """Name the layer and the network, and count the photographs."""
        total = int(self.photographs_per_class.sum())
        return f"<evidence of {self.layer} in {total} photographs for {self.network.label}>"

    def __str__(self) -> str:
        """Return a table: one line for each predicted class, its channels sorted by weight."""
        names = tuple(class_title(self.network, i) for i in range(len(self.count)))
        rows = [("class", "photographs", "channel: count x contribution")]
        for index in self.photographs_per_class.argsort(descending=True, stable=True).tolist():
            photographs = int(self.photographs_per_class[index])
            if not photographs:
                break
            first = self.weight[index].argsort(descending=True)[:TABLE_CHANNELS].tolist()
            cells = [
                f"{channel}: {int(self.count[index, channel])} x {self.contribution[index, channel]:.2f}"
                for channel in first
                if self.count[index, channel]
            ]
            rows.append((names[index], str(photographs), ", ".join(cells)))
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
        return "\n".join(f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}" for row in rows)


@entry_point(any_axes=True)
def evidence(
    network: fv.Network,
    photographs: str | Path,
    layer: LayerLike | None = None,
    *,
    top: int = 5,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Evidence:
    """Count which channels contribute most to the predicted class, over a folder of photographs.

    The contribution of a channel to a logit is its activation times the gradient of the logit, summed over positions.

    Args:
        network: A classifier with one head.
        photographs: Folder of photographs, with all folders below it. Files that cannot be read are skipped.
        layer: Name of the layer; `None` for the last one at whose positions the class logits have a gradient.
        top: Number of channels to count per photograph, >= 1.
        progress: Called after each batch with the number of files read and the number of files.

    Returns:
        Counts and mean contributions by class and channel.

    Raises:
        AddressError: There is no such layer, or the network does not output class logits.
        SettingError: `top` is < 1, the network has several heads or a single output, or the class logits have no
            gradient in the layer.
        OutputError: The folder is missing, or has no image that can be read.
    """
    if top < 1:
        raise fv.SettingError(f"top must be >= 1, got {top} (default 5)")
    if OUTPUT not in network.heads:
        heads = ", ".join(network.heads)
        raise fv.SettingError(f"evidence needs a network with one head, got {heads}; pass each network on its own")
    if network.table[OUTPUT].channels < 2:
        raise fv.SettingError(
            f"evidence is about the predicted classes, and {network.label} has one output; use fv.examples, or "
            "fv.explain for single images"
        )
    name = _contributing_layer(network, network.name_of(layer))
    files = sum(1 for _ in inputs_in(photographs, network.input)) if progress else 0
    classes, channels = network.table[OUTPUT].channels, network.layer(name).channels
    per_class, count, total = torch.zeros(classes), torch.zeros(classes, channels), torch.zeros(classes, channels)
    skipped = SkippedFiles(Path(photographs))
    for batch in image_batches(
        photographs, size=network.size, channels=network.channels, spec=network.input, batch=BATCH, skipped=skipped
    ):
        contributions, labels = _contributions(network, name, batch.images)
        largest = contributions.topk(min(top, channels), dim=1)
        for label, indices, values in zip(labels.tolist(), largest.indices, largest.values, strict=True):
            per_class[label] += 1
            count[label, indices[values > 0]] += 1
            total[label, indices[values > 0]] += values[values > 0]
        if progress:
            progress(min(files, batch.read), files)
    if not per_class.any():
        raise skipped.error()
    return Evidence(network, name, per_class, count, total / count.clamp(min=1), skipped.first)


def _contributing_layer(network: fv.Network, layer: str | None) -> str:
    """Return a layer at whose positions a class logit has a gradient for noise: the given one, or the last.

    Raises:
        AddressError: There is no such layer.
        SettingError: A logit has no gradient there, or in any layer.
    """
    request = AttributionRequest(network, fv.objectives.Logit(0), network.size)
    return gradient_layer(request, noise(network).to(network.device), layer)


def _contributions(
    network: fv.Network, layer: str, images: Float[Tensor, "n c *size"]
) -> tuple[Float[Tensor, "n channels"], Int[Tensor, " n"]]:
    """Return the contribution of each channel to the logit of the predicted class, and the index of that class."""
    with network.session([layer, OUTPUT]) as forward, torch.enable_grad():
        acts = forward(images.to(network.device).requires_grad_())
        logits = check_finite(acts.logits(), network, OUTPUT)
        labels = logits.argmax(1)
        # An image's logit depends on this image only, so the gradient of the sum holds the gradient of each.
        (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), acts[layer])
        maps = acts.as_map(layer).detach()
    gradients = acts.replaced({layer: gradient}).as_map(layer)
    return (maps * gradients).flatten(2).sum(2).cpu(), labels.cpu()
