"""Class activation maps: the channels of a layer at each position, weighted by their effect on the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv
from featviz.apps.explain.methods.gradients import GuidedBackprop, mean_color
from featviz.apps.explain.methods.masking import masked_scores
from featviz.apps.explain.request import AttributionMap, AttributionRequest, LayerMethod, positions_of
from featviz.io import linear_mode

HEAD_TOLERANCE = 1e-3
"""Largest difference, relative to the largest logit, between the logits and a linear layer of the pooled map."""


@dataclass(frozen=True)
class CAM:
    """Class activation map: the last feature map, weighted as the class weights its mean.

    Formula: map(y, x) = Σ_k w_k A_k(y, x), with the activation A_k of channel k and its weight w_k for the class. For
    a network that ends in global average pooling and one linear layer, the mean of the map is the logit without its
    bias. Good for such networks: exact and fast, at the resolution of the layer.

    Source: Zhou et al. 2016, https://arxiv.org/abs/1512.04150.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the weighted feature map.

        Raises:
            SettingError: The target is not a class logit, or the network does not end in global average pooling and
                one linear layer.
        """
        network, target = request.network, request.target
        if not isinstance(target, fv.objectives.Logit):
            raise fv.SettingError(f"CAM needs a class logit as target, got {target}; use GradCAM")
        layer = request.spatial_layer(None)
        with request.open(layer) as scorer, torch.no_grad():
            acts = scorer.activations(images)
            maps, logits = acts.as_map(layer), acts.logits(target.network)
            head = _linear_head(network, maps, logits)
            weights = head.weight[acts.class_index(target.name, target.network)]
        return AttributionMap(torch.einsum("nc...,c->n...", maps, weights.to(maps.dtype)))


@dataclass(frozen=True)
class GradCAM(LayerMethod):
    """Grad-CAM: a layer's channels, weighted by the mean gradient of the score in each.

    Formula: map = ReLU(Σ_k g_k A_k), with the activation A_k of channel k and the mean g_k of the score's gradient over
    its positions. The ReLU drops what lowers the score. Good for any network and target: depends on the class, points
    reliably, but only at the resolution of the layer. Equals CAM, up to a factor and the ReLU, where CAM applies.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the weighted layer, without negative values."""
        maps, gradients = maps_and_gradients(request, images, self.layer)
        return AttributionMap(torch.einsum("nc...,nc->n...", maps, gradients.mean(positions_of(maps))).relu())


@dataclass(frozen=True)
class GradCAMPlusPlus(LayerMethod):
    """Grad-CAM++: Grad-CAM whose weights are weighted sums of the positive gradients.

    Formula: map = ReLU(Σ_k w_k A_k) with w_k = Σ_yx a_k(y, x) ReLU(g_k(y, x)) and a_k = g_k² / (2 g_k² + g_k³ S_k),
    where S_k is the sum of A_k over all positions. Good where a class is in several places of an image.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, equations 18 and 19.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the weighted layer, without negative values."""
        maps, gradients = maps_and_gradients(request, images, self.layer)
        square = gradients.square()
        denominator = 2 * square + gradients * square * maps.sum(positions_of(maps), keepdim=True)
        alpha = torch.where(denominator == 0, 0, square / torch.where(denominator == 0, 1, denominator))
        weights = (alpha * gradients.relu()).sum(positions_of(maps))
        return AttributionMap(torch.einsum("nc...,nc->n...", maps, weights).relu())


@dataclass(frozen=True)
class HiResCAM(LayerMethod):
    """HiResCAM: a layer's channels times the gradient of the score, position by position.

    Formula: map = Σ_k g_k ⊙ A_k, with the activation A_k of channel k and the score's gradient g_k. Where the layers
    after it are linear, the map adds up to the score without biases, which Grad-CAM's does not.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: Draelos and Carin 2020, https://arxiv.org/abs/2011.08891, section 3.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the sum of the products."""
        maps, gradients = maps_and_gradients(request, images, self.layer)
        return AttributionMap((maps * gradients).sum(1))


@dataclass(frozen=True)
class LayerCAM(LayerMethod):
    """LayerCAM: a layer's channels times the positive gradient of the score, position by position.

    Formula: map = ReLU(Σ_k ReLU(g_k) ⊙ A_k), with the activation A_k of channel k and the score's gradient g_k. Good
    also for layers before the last one, whose maps are finer.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943, equations 6 and 7.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the sum of the products, without negative values."""
        maps, gradients = maps_and_gradients(request, images, self.layer)
        return AttributionMap((maps * gradients.relu()).sum(1).relu())


@dataclass(frozen=True)
class ScoreCAM(LayerMethod):
    """Score-CAM: a layer's channels, weighted by the score of the image that each of them masks.

    Formula: map = ReLU(Σ_k softmax_k(s_k) A_k), where s_k is the score of the image multiplied by the enlarged channel
    k, scaled to [0, 1]. What a mask hides has the mean colour of the network's input specification. Needs no gradient;
    one pass per channel.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: Wang et al. 2020, https://arxiv.org/abs/1910.01279.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the weighted layer, without negative values."""
        layer = gradient_layer(request, images, None) if self.layer is None else request.spatial_layer(self.layer)
        with request.open(layer) as scorer, torch.no_grad():
            maps = scorer.activations(images.detach()).as_map(layer)
        masks = F.interpolate(maps.float(), request.size, mode=linear_mode(maps))
        low, high = (edge(masks, positions_of(masks), keepdim=True) for edge in (torch.amin, torch.amax))
        masks = (masks - low) / (high - low).clamp(min=1e-12)  # a constant channel hides the whole image
        found = []
        with request.open() as scorer, torch.no_grad():
            for image, own in zip(images.detach(), masks.detach(), strict=True):
                scores = masked_scores(scorer, image, own, mean_color(request.network, images))
                found.append(scores.softmax(0))
        return AttributionMap(torch.einsum("nc...,nc->n...", maps, torch.stack(found).to(maps.dtype)).relu())


@dataclass(frozen=True)
class GuidedGradCAM(LayerMethod):
    """Guided backpropagation, multiplied by the enlarged Grad-CAM map.

    Good for pixel-level detail that depends on the class: guided backpropagation alone has the detail but hardly
    depends on the class, Grad-CAM alone has the class but not the detail.

    Args:
        layer: Layer of Grad-CAM; `None` for the last one where the target has a gradient.

    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, section 3.2.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the product of both maps."""
        coarse = GradCAM(self.layer).attribute(request, images).map
        per_channel = GuidedBackprop().attribute(request, images).per_channel
        assert per_channel is not None
        weight = F.interpolate(coarse[:, None], request.size, mode=linear_mode(coarse[:, None])).to(per_channel.dtype)
        per_channel = per_channel * weight
        return AttributionMap(per_channel.sum(1), per_channel)


def maps_and_gradients(request: AttributionRequest, images: Tensor, layer: str | None) -> tuple[Tensor, Tensor]:
    """Return the activations of a layer and the gradients of the score in them, `(n, channels, *position)` each.

    Args:
        request: The network and the target.
        images: In [0, 1].
        layer: Name of the layer; `None` for the last one at whose positions the score has a gradient.

    Raises:
        AddressError: There is no such layer.
        SettingError: The score has no gradient there, or in any layer.
    """
    return _layer_with_gradient(request, images, layer)[1:]


def gradient_layer(request: AttributionRequest, images: Tensor, layer: str | None) -> str:
    """Return the name of the layer that `maps_and_gradients` reads."""
    return _layer_with_gradient(request, images, layer)[0]


def _layer_with_gradient(request: AttributionRequest, images: Tensor, layer: str | None) -> tuple[str, Tensor, Tensor]:
    """Return a layer's name, its activations and the score's gradients.

    Without a given layer, layers are tried backwards from the last one, in groups of 1, 2, 4 …; each group takes one
    pass. The last layer with positions may have no gradient: the patch tokens after the last attention
    of a transformer, for example, no longer reach the class token.
    """
    left = list(reversed(request.spatial_layers)) if layer is None else [request.spatial_layer(layer)]
    count = 1
    while left:
        for name, maps, gradients in _gradients_in(request, images, left[:count]):
            if gradients.any():
                return name, maps, gradients
        left, count = left[count:], 2 * count
    if layer is None:
        where = f"any layer of {request.network.label} with positions"
        raise fv.SettingError(f"{request.target} has no gradient in {where}; give another target")
    raise fv.SettingError(
        f"{request.target} has no gradient at the positions of {layer!r}; leave the layer out, or give an earlier one"
    )


def _gradients_in(
    request: AttributionRequest, images: Tensor, layers: Sequence[str]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield each layer's name, activations, and the score's gradients in them, which are 0 where it is not reached."""
    with request.open(*layers) as scorer, torch.enable_grad():
        acts = scorer.activations(images.requires_grad_())
        # The score of an image depends on this image only, so the gradient of the sum holds the gradient of each.
        score = scorer.scores(acts)[:, 0].sum()
        reached = [layer for layer in layers if acts[layer].requires_grad]  # others do not depend on the image
        found = torch.autograd.grad(score, [acts[layer] for layer in reached], allow_unused=True) if reached else ()
    by_layer = dict(zip(reached, found, strict=True))
    for layer in layers:
        gradient = by_layer.get(layer)
        maps = acts.as_map(layer).detach()
        gradients = torch.zeros_like(maps) if gradient is None else acts.replaced({layer: gradient}).as_map(layer)
        yield layer, maps, gradients


def _linear_head(network: fv.Network, maps: Tensor, logits: Tensor) -> nn.Linear:
    """Find the linear layer that computes the logits from the mean of the map.

    Try each linear layer of the right size: the forward code between the last feature map and the output is unknown.

    Raises:
        SettingError: No linear layer does.
    """
    for part in reversed(list(network.module.modules())):
        if isinstance(part, nn.Linear) and part.in_features == maps.shape[1] and part.out_features == logits.shape[1]:
            computed = part(maps.mean(positions_of(maps)).to(part.weight.dtype)).to(logits.dtype)
            if (computed - logits).abs().max() <= HEAD_TOLERANCE * logits.abs().max():
                return part
    needed = "a network that ends in global average pooling and one linear layer"
    raise fv.SettingError(f"CAM needs {needed}, which {network.label} does not; use GradCAM")
