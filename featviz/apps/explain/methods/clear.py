"""Methods that compare classes, or attend to the positions that matter for one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.cams import gradient_layer, maps_and_gradients
from featviz.apps.explain.request import AttributionMap, AttributionRequest, LayerMethod
from featviz.apps.shared.arguments.classes import class_title
from featviz.checks import check_number
from featviz.network import OUTPUT


@dataclass(frozen=True)
class CLEAR(LayerMethod):
    """Class-enhanced attentive response: the class to which each position contributes most, and how much.

    Formula: the response for class c at a position is ReLU(Σ_k A_k ∂logit_c/∂A_k), over the channels k. `labels` is the
    argmax over the compared classes, `map` the maximum. Good to see where classes compete in one image. The target is
    ignored.

    Args:
        classes: Number of most likely classes of each image to compare, >= 1.
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the logits have a
            gradient.

    Raises:
        SettingError: `classes` is < 1.

    Source: Kumar et al. 2017, https://arxiv.org/abs/1704.04133.
    Differs: the paper sends the response of each class's own kernels back to the pixels. Here it stays in the layer:
        the network then needs no kernels per class, and classes that share kernels keep different responses.
    """

    classes: int = 5
    layer: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_number("classes", self.classes, at_least=1, whole=True, note="(default 5)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the largest response at each position, and its class.

        Raises:
            SettingError: The network reads text.
        """
        network = request.network
        if network.tokens is not None:
            raise fv.SettingError("CLEAR colours images by class; explain a text for each class, by GradCAM")
        with torch.no_grad():
            logits = network.capture(images, [OUTPUT]).logits()
        # The likely classes of each image, in the order of the classes, so that each class has one label in all images.
        likely = logits.topk(min(self.classes, logits.shape[1])).indices
        classes = likely.unique().tolist()
        requests = [AttributionRequest(network, fv.objectives.Logit(index), request.size) for index in classes]
        layer = gradient_layer(requests[0], images.detach().clone(), self.layer)  # the same for all classes
        responses = []
        for index, own in zip(classes, requests, strict=True):
            maps, gradients = maps_and_gradients(own, images.detach().clone(), layer)
            compared = (likely == index).any(1).view(-1, *[1] * (maps.ndim - 2))
            responses.append((maps * gradients).sum(1).relu() * compared)
        strength, which = torch.stack(responses, 1).max(1)
        names = tuple(class_title(network, index) for index in classes)
        return AttributionMap(strength, labels=which, class_names=names)


@dataclass(frozen=True)
class ClassAttention(LayerMethod):
    """Self-attention between the positions of a layer, drawn to those that matter for the target.

    Formula: softmax((QKᵀ + QCᵀ) / √d) V. The values V are the layer's channels at each position; queries Q and keys K
    are the values at length √d; the class keys C are the keys with each channel scaled by the score's mean gradient in
    it, at most 1 in magnitude. The map is the mean-gradient-weighted sum of the channels of the result: what each
    position collects that raises the score. Good to let similar positions support each other; otherwise as Grad-CAM.

    Args:
        layer: Name of a feature map, or of tokens on a patch grid; `None` for the last one where the target has a
            gradient.

    Source: featviz, after the idea of CLEAR.
    """

    layer: str | None = None

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the attended layer, weighted by the gradients."""
        maps, gradients = maps_and_gradients(request, images, self.layer)
        values, weights = maps.flatten(2).transpose(1, 2), gradients.flatten(2).mean(2)
        # Length √d makes QKᵀ / √d = √d · cosine similarity, whatever the scale of the activations is.
        queries = F.normalize(values, dim=2) * values.shape[2] ** 0.5
        class_keys = queries * weights[:, None] / weights.abs().amax(1).clamp(min=1e-12)[:, None, None]
        shares = class_attention(queries, queries, class_keys)
        return AttributionMap(((shares @ values) @ weights[:, :, None])[..., 0].unflatten(1, maps.shape[2:]))


def class_attention(
    queries: Float[Tensor, "n places d"], keys: Float[Tensor, "n places d"], class_keys: Float[Tensor, "n places d"]
) -> Float[Tensor, "n places places"]:
    """Return softmax((QKᵀ + QCᵀ) / √d): the weight of each position (last dimension) for each other."""
    return (queries @ (keys + class_keys).transpose(1, 2) / queries.shape[2] ** 0.5).softmax(2)
