"""Methods that compare classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.cams import maps_and_gradients
from featviz.apps.explain.request import Found, Question


@dataclass(frozen=True)
class CLEAR:
    """Class-enhanced attentive response: which class every place speaks for most, and how strongly.

    Args:
        classes: so many of those that the network finds likeliest are compared.
        layer: a feature map, or tokens on a grid; `None` means the last.

    Source: Kumar et al. 2017, https://arxiv.org/abs/1704.04133.
    Differs: a class's response is what each place of the layer adds to its logit, so the network need not have kernels
        of each class's own; it is not sent back to the pixels, on the way to which classes that share kernels become
        alike. The target is not asked for.
    """

    classes: int = 5
    layer: str | None = None

    def __post_init__(self) -> None:
        """Check the number."""
        if self.classes < 1:
            raise fv.SettingError(f"{self.classes} classes cannot be compared; give 1 or more")

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        network = question.network
        with torch.no_grad():
            logits = network.capture(images, [""]).logits()
        likely = logits.softmax(1).mean(0).topk(min(self.classes, logits.shape[1])).indices.tolist()
        responses = []
        for index in likely:
            one = Question(network, fv.objectives.Logit(index), question.size)
            maps, gradients = maps_and_gradients(one, images.detach().clone(), self.layer)
            responses.append((maps * gradients).sum(1).relu())
        strength, which = torch.stack(responses, 1).max(1)
        names = tuple(network.classes[index] if network.classes else str(index) for index in likely)
        return Found(strength, labels=which, names=names)


@dataclass(frozen=True)
class ClassAttention:
    """Attention over the places of a layer that are enhanced for the target: softmax((QKᵀ + QCᵀ) / √d) V.

    Queries, keys and values are the layer's channels at each place, the first two brought to one length; the class's
    keys C are the same, their channels weighed by what they do for the target. Of what every place takes in, the map
    shows how much speaks for the target.

    Args:
        layer: a feature map, or tokens on a grid; `None` means the last in which the target has a gradient.
    """

    layer: str | None = None

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        maps, gradients = maps_and_gradients(question, images, self.layer)
        values, weights = maps.flatten(2).transpose(1, 2), gradients.mean((2, 3))
        queries = F.normalize(values, dim=2) * values.shape[2] ** 0.5
        enhanced = queries * weights[:, None] / weights.abs().amax(1).clamp(min=1e-12)[:, None, None]
        shares = class_attention(queries, queries, enhanced)
        return Found(((shares @ values) @ weights[:, :, None])[..., 0].unflatten(1, maps.shape[2:]))


def class_attention(
    queries: Float[Tensor, "n places d"], keys: Float[Tensor, "n places d"], enhanced: Float[Tensor, "n places d"]
) -> Float[Tensor, "n places places"]:
    """Return softmax((QKᵀ + QCᵀ) / √d): how much each place takes in of every other."""
    return (queries @ (keys + enhanced).transpose(1, 2) / queries.shape[2] ** 0.5).softmax(2)
