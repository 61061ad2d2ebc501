"""A Gaussian filter over another method's maps."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.methods.gradients import Gradient
from featviz.apps.explain.request import AttributionMap, AttributionRequest, Method, check_method, resize_map
from featviz.checks import check_number
from featviz.transforms.blur import gaussian_blur


@dataclass(frozen=True)
class Smoothed:
    """Another method's map, filtered with a Gaussian.

    The maximum of a map of single pixels is decided by noise. That of a smoothed map is where relevance is dense, so it
    names the place of an object more reliably. The detail is lost.

    Args:
        method: The other method.
        std: Standard deviation of the Gaussian in px of the image, > 0. Edges are mirrored.

    Raises:
        SettingError: An argument is out of its range.

    Source: the pointing game of TorchRay, Fong et al. 2019, https://arxiv.org/abs/1910.08485, smooths maps in this way.
    """

    method: Method = field(default_factory=Gradient)
    std: float = 4.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_method(self.method)
        check_number("std of Smoothed", self.std, above=0, note="(px, default 4)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the smoothed map.

        Raises:
            SettingError: The target is that of a text, which has no px.
        """
        if request.network.tokens is not None:
            raise fv.SettingError("Smoothed filters maps of images; for text, use its method alone")
        maps = resize_map(self.method.attribute(request, images).map.detach(), request.size)
        return AttributionMap(gaussian_blur(maps[:, None].float(), self.std)[:, 0])
