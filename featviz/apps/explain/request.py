"""Interfaces between `explain` and attribution methods: the request, the resulting map and the method protocol."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featviz.checks import check_text
from featviz.engine import Scorer, open_scorer
from featviz.errors import SettingError, shown
from featviz.interfaces import ObjectiveLike, Size
from featviz.io import linear_mode
from featviz.network import Network


@dataclass(frozen=True)
class AttributionRequest:
    """Input of an attribution method: a network, a target and the size of the images.

    Args:
        network: The network.
        target: The objective whose score is attributed to parts of the image.
        size: Height and width of the images in px; the length of each axis of signals and volumes.
    """

    network: Network
    target: ObjectiveLike
    size: Size

    def open(self, *layers: str) -> AbstractContextManager[Scorer]:
        """Open the network to score images by the target.

        Args:
            layers: Further layers to capture.

        Returns:
            A context manager that yields a `Scorer` with one objective, the target.
        """
        return open_scorer(self.network, [self.target], self.size, layers=layers)

    @property
    def spatial_layers(self) -> list[str]:
        """Layers with more than one position, in execution order, up to the last one that the target reads."""
        names = list(self.network.table)
        # The row of a module that runs several times is that of its last call, so an earlier call comes before it.
        ends = {name: i + 1 for i, name in enumerate(names)} | {f"{name}#": i for i, name in enumerate(names)}
        read = [ends.get(re.sub(r"#\d+$", "#", layer), len(names)) for layer in self.target.layers]
        return [name for name in names[: max(read, default=len(names))] if _is_spatial(self.network, name)]

    def spatial_layer(self, layer: str | None) -> str:
        """Check that a layer can be attributed to, or choose one.

        Args:
            layer: Name of a layer; `None` for the last of `spatial_layers`.

        Returns:
            The name of the layer.

        Raises:
            AddressError: There is no such layer.
            SettingError: The layer has no positions or comes after the target, or no layer qualifies.
        """
        layers = self.spatial_layers
        if layer is None:
            if not layers:
                raise SettingError(
                    f"{self.network.label} has no layer with positions before {self.target}; choose a later target"
                )
            return layers[-1]
        is_call = layer in self.network.probed.calls and _is_spatial(self.network, layer)
        if layer in layers or is_call:  # whether a call comes after the target is seen by its gradient
            return layer
        with self.network.session([layer]):  # raises AddressError if there is no such layer
            hint = f"the last such layer is {layers[-1]!r}" if layers else f"{self.network.label} has no such layer"
            raise SettingError(f"layer must have positions and not come after {self.target}, got {layer!r}; {hint}")


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """Result of an attribution method.

    Args:
        map: Contribution of each pixel, or of each position of a coarser grid, to the score: > 0 raises it, < 0 lowers
            it. Some methods give magnitudes only, which are >= 0.
        per_channel: Contribution of each input channel of each pixel; `None` if the method does not compute it.
        delta: Relative error of the sum that the method guarantees: (sum of the map - guaranteed sum) / |guaranteed
            sum|. Integrated gradients guarantee the score's increase over the baseline, LRP the relevance at the
            target. `None` for methods without such a sum.
        remedy: What to do where `delta` is more than 5 %, for the warning; `None` if the sum is not guaranteed, as
            where a rule of LRP absorbs relevance.
        labels: Index into `class_names` of the class to which each position contributes most; `None` for methods that
            do not compare classes.
        class_names: Names of the compared classes.
    """

    map: Float[Tensor, "n *position"]
    per_channel: Float[Tensor, "n c *size"] | None = None
    delta: Float[Tensor, " n"] | None = None
    remedy: str | None = None
    labels: Int[Tensor, "n *position"] | None = None
    class_names: tuple[str, ...] = ()


@runtime_checkable
class Method(Protocol):
    """An attribution method: computes how much each part of an image contributes to a score."""

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Attribute the score of a target to the parts of images.

        Args:
            request: The network, the target and the size of the images.
            images: In [0, 1], on the network's device. The method may set `requires_grad` on them.

        Returns:
            One map per image, `(n, *position)`, at the size of the images or coarser, and other results of the method.

        Raises:
            SettingError: The method does not apply to this network or target.
        """


@runtime_checkable
class ReadsLayer(Protocol):
    """A method that reads one layer, which `explain(..., layer=...)` can choose."""

    layer: str | None

    def with_layer(self, layer: str) -> Self:
        """Return the same method for another layer."""


class LayerMethod:
    """Base class of frozen dataclasses with a field `layer`, the name of the layer that the method reads."""

    layer: str | None

    def __post_init__(self) -> None:
        """Check that the layer is a name, or `None` for the default.

        Raises:
            SettingError: `layer` is neither text nor `None`.
        """
        if self.layer is not None:
            check_text(f"layer of {type(self).__name__}", self.layer)

    def with_layer(self, layer: str) -> Self:
        """Return the same method for another layer."""
        return replace(self, layer=layer)  # type: ignore[type-var]


def check_method(method: object) -> None:
    """Check that the method within another one is made.

    Raises:
        SettingError: It is no attribution method, or a class.
    """
    if isinstance(method, type) or not isinstance(method, Method):
        raise SettingError(f"method must be an attribution method, such as GradCAM(), got {shown(method)}")


def box_averaged(maps: Float[Tensor, "n 1 *size"], side: int) -> Float[Tensor, "n 1 *size"]:
    """Return the mean of each px and its neighbours, at the border of those inside of the map.

    Args:
        maps: Maps of one, two or three axes.
        side: Px along each axis, odd.
    """
    pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[maps.ndim - 3]
    return pool(maps, side, 1, side // 2, count_include_pad=False)  # type: ignore[no-any-return]


def resize_map(maps: Float[Tensor, "n *position"], size: Size) -> Float[Tensor, "n *size"]:
    """Resize maps to the size of the images, linearly along each axis."""
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None].float(), size, mode=linear_mode(maps[:, None]), align_corners=False)[:, 0]


def positions_of(maps: Float[Tensor, "n channel *position"]) -> tuple[int, ...]:
    """Return the dimensions of a map along which its positions lie, to sum or average over them."""
    return tuple(range(2, maps.ndim))


@torch.no_grad()
def scores_of(
    network: Network, objectives: Sequence[ObjectiveLike], images: Float[Tensor, "n c *size"]
) -> Float[Tensor, "n objectives"]:
    """Return the score of every image for every objective, on the CPU.

    Args:
        network: The network.
        objectives: Objectives to score.
        images: Images, or embedding sequences, which are not in [0, 1] as `fv.score` demands.
    """
    with open_scorer(network, objectives, tuple(images.shape[2:])) as scorer:
        return scorer(images.to(network.device)).cpu()


def _is_spatial(network: Network, layer: str) -> bool:
    """Whether a layer is a feature map of more than one position, or tokens on a patch grid."""
    found = network.layer(layer)
    if found.layout.patch is not None:
        return True
    # Tokens of video or volumes have one dimension of positions, whose places in the input are not known.
    is_map = found.layout.kind == "map" and len(found.map_size) == len(network.size)
    return is_map and math.prod(found.map_size) > 1
