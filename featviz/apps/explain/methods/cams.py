"""Class activation maps: the places of a layer, each channel weighed by what it does for the score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv
from featviz.apps.explain.methods.gradients import GuidedBackprop
from featviz.apps.explain.request import Found, Question

CLOSE = 1e-3
"""How far the logits may lie from what the mean of the map gives, as a share of the largest."""


@dataclass(frozen=True)
class CAM:
    """The last feature map, weighed as the class weighs its mean: for networks that end in just that.

    Source: Zhou et al. 2016, https://arxiv.org/abs/1512.04150.
    """

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        network, target = question.network, question.target
        if not isinstance(target, fv.objectives.Logit):
            raise fv.SettingError(f"CAM explains the logit of a class, not {target}; GradCAM explains anything")
        layer = question.place_layer(None)
        with question.open(layer) as ask, torch.no_grad():
            acts = ask.activations(images)
            maps, logits = acts.places(layer), acts.logits(target.network)
            head = _head(network, maps, logits)
            weights = head.weight[acts.class_index(target.name, target.network)]
        return Found(torch.einsum("nchw,c->nhw", maps, weights.to(maps.dtype)))


@dataclass(frozen=True)
class GradCAM:
    """A layer's map, its channels weighed by the mean of their gradients; what speaks against is left out.

    Args:
        layer: a feature map, or tokens on a grid; `None` means the last in which the target has a gradient.

    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391.
    """

    layer: str | None = None

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        maps, gradients = maps_and_gradients(question, images, self.layer)
        return Found(torch.einsum("nchw,nc->nhw", maps, gradients.mean((2, 3))).relu())


@dataclass(frozen=True)
class GuidedGradCAM:
    """Guided backprop where Grad-CAM points to.

    Args:
        layer: of Grad-CAM; `None` means the last in which the target has a gradient.

    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, section 3.2.
    """

    layer: str | None = None

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        coarse = GradCAM(self.layer).find(question, images).map
        channels = GuidedBackprop().find(question, images).channels
        assert channels is not None
        channels = channels * F.interpolate(coarse[:, None], question.size, mode="bilinear").to(channels.dtype)
        return Found(channels.sum(1), channels)


def maps_and_gradients(question: Question, images: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
    """Return a layer's channels over its places, and the score's gradients in them, (n, channels, rows, columns)."""
    return _searched(question, images, layer)[1:]


def gradient_layer(question: Question, images: Tensor, layer: str | None) -> str:
    """Return the layer asked for, or the last in whose places the score has a gradient.

    Raises:
        SettingError: the score has no gradient there, or in any layer.
    """
    return _searched(question, images, layer)[0]


def _searched(question: Question, images: Tensor, layer: str | None) -> tuple[str, Tensor, Tensor]:
    """Find a layer, its channels over its places, and the score's gradients in them.

    Args:
        question: whose target the score is of.
        images: in [0, 1].
        layer: its name; `None` means the last in whose places the score has a gradient: what a transformer's class
            token does not look at any more tells nothing.

    Raises:
        SettingError: the score has no gradient there, or in any layer.
    """
    for name in reversed(question.before) if layer is None else [question.place_layer(layer)]:
        maps, gradients = _tried(question, images, name)
        if gradients.any():
            return name, maps, gradients
    which = f"the places of {layer!r}" if layer else f"any layer of {question.network.label} that has places"
    raise fv.SettingError(f"{question.target} has no gradient in {which}; leave the layer out, or give an earlier one")


def _tried(question: Question, images: Tensor, name: str) -> tuple[Tensor, Tensor]:
    with question.open(name) as ask, torch.enable_grad():
        acts = ask.activations(images.requires_grad_())
        (gradient,) = torch.autograd.grad(ask.scores(acts)[:, 0].sum(), acts[name], allow_unused=True)
        maps = acts.places(name).detach()
    return maps, torch.zeros_like(maps) if gradient is None else acts.replaced({name: gradient}).places(name)


def _head(network: fv.Network, maps: Tensor, logits: Tensor) -> nn.Linear:
    """Find the linear layer that makes the logits from the mean of the map.

    Raises:
        SettingError: the network does not end so.
    """
    for part in reversed(list(network.module.modules())):
        if isinstance(part, nn.Linear) and part.in_features == maps.shape[1] and part.out_features == logits.shape[1]:
            again = part(maps.mean((2, 3)).to(part.weight.dtype)).to(logits.dtype)
            if (again - logits).abs().max() <= CLOSE * logits.abs().max():
                return part
    raise fv.SettingError(
        f"CAM needs a network that ends in the mean of a feature map and one linear layer; {network.label} does not; "
        "GradCAM goes with any"
    )
