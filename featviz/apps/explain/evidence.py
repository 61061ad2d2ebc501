"""Which channels of a layer matter for which class, over a folder of photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.io import read_photographs
from featviz.apps.explain.methods.cams import gradient_layer
from featviz.apps.explain.request import Question
from featviz.apps.explain.scan import Skipped
from featviz.io import images_in

BATCH = 16
"""Photographs that the network sees at once."""
SHOWN = 5
"""Channels of each class that a table shows."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """How often each channel was among those that spoke most for a class, and how much it added to its logit then.

    Args:
        network: whose channels they are.
        layer: which layer's.
        photographs: how many were taken for each class.
        count: in how many of them each channel was among the first.
        score: what it added to the logit in these, on average.
        skipped: the first few files that could not be read, and why.
    """

    network: fv.Network
    layer: str
    photographs: Float[Tensor, " classes"]
    count: Float[Tensor, "classes channels"]
    score: Float[Tensor, "classes channels"]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> Float[Tensor, "classes channels"]:
        """Count times score: how much each channel matters for each class."""
        return self.count * self.score

    def __repr__(self) -> str:
        """Say what it is of."""
        return f"<evidence of {self.layer} in {int(self.photographs.sum())} photographs for {self.network.label}>"

    def __str__(self) -> str:
        """Lay out a table: a line for each class that was found, its channels by weight."""
        names = self.network.classes or tuple(f"logit {i}" for i in range(len(self.count)))
        rows = [("class", "photographs", "channel: count x score")]
        for index in self.photographs.argsort(descending=True, stable=True).tolist():
            if not self.photographs[index]:
                break
            first = self.weight[index].argsort(descending=True)[:SHOWN].tolist()
            told = [
                f"{k}: {int(self.count[index, k])} x {self.score[index, k]:.2f}" for k in first if self.count[index, k]
            ]
            rows.append((names[index], str(int(self.photographs[index])), ", ".join(told)))
        wide = [max(len(row[i]) for row in rows) for i in (0, 1)]
        return "\n".join(f"{row[0]:{wide[0]}}  {row[1]:>{wide[1]}}  {row[2]}" for row in rows)


def evidence(
    network: fv.Network,
    folder: str | Path,
    layer: str | None = None,
    *,
    top: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Find which channels speak most for the class that the network sees, over a folder of photographs.

    What a channel adds to a logit is its activation times the logit's gradient, over all places.

    Args:
        network: what looks at them.
        folder: of photographs; those that cannot be read are left out.
        layer: whose channels; `None` means the last in whose places the classes have a gradient.
        top: so many channels are counted for each photograph.
        progress: called now and then with the photographs seen and those in all.

    Raises:
        AddressError: there is no such layer, or the network does not put out class logits.
        SettingError: `top` is below 1, or no class has a gradient in the layer's places.
        OutputError: the folder is missing, or holds no image that can be read.
    """
    if top < 1:
        raise fv.SettingError(f"{top} channels of a photograph cannot be counted; give 1 or more")
    if "" not in network.heads:
        raise fv.SettingError(f"{network.label} has several heads; take the evidence for each network apart")
    question = Question(network, fv.objectives.Logit(0), network.size)
    noise = torch.rand(1, network.channels, *network.size, generator=torch.Generator().manual_seed(0))
    name = gradient_layer(question, noise.to(network.device), layer)
    files = sum(1 for _ in images_in(folder)) if progress else 0
    classes, channels = network.table[""].channels, network.table[name].channels
    photographs, count, total = torch.zeros(classes), torch.zeros(classes, channels), torch.zeros(classes, channels)
    waiting: list[Tensor] = []
    skipped = Skipped(Path(folder))

    def look() -> None:
        added, labels = _added(network, name, torch.stack(waiting))
        first = added.topk(min(top, channels), dim=1)
        for label, which, values in zip(labels.tolist(), first.indices, first.values, strict=True):
            photographs[label] += 1
            count[label, which[values > 0]] += 1
            total[label, which[values > 0]] += values[values > 0]
        waiting.clear()
        if progress:
            progress(min(files, int(photographs.sum())), files)

    for _, image in read_photographs(folder, size=network.size, channels=network.channels, skipped=skipped):
        waiting.append(image)
        if len(waiting) == BATCH:
            look()
    if waiting:
        look()
    if not photographs.any():
        raise skipped.nothing()
    return Evidence(network, name, photographs, count, total / count.clamp(min=1), skipped.first)


def _added(network: fv.Network, layer: str, images: Tensor) -> tuple[Float[Tensor, "n channels"], Tensor]:
    """Return what each channel adds to the logit of the class that is seen, and which class that is."""
    with network.session([layer, ""]) as forward, torch.enable_grad():
        acts = forward(images.to(network.device).requires_grad_())
        logits = acts.logits()
        labels = logits.argmax(1)
        (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), acts[layer])
        maps = acts.places(layer).detach()
    gradients = acts.replaced({layer: gradient}).places(layer)
    return (maps * gradients).sum((2, 3)).cpu(), labels.cpu()
