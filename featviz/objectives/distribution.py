"""Objectives that compare the distribution of activations with that of photographs, wherever in the image they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_text
from featviz.errors import AddressError, SettingError, shown
from featviz.interfaces import RenderContext, Traits
from featviz.io.array import Array
from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective, quote_name
from featviz.objectives.bound import Bound
from featviz.objectives.photographs import OfPhotographs, Photographs, show_photographs
from featviz.objectives.reading import capture_for, read_for

CHUNK = 16
"""Number of photographs per batch."""
LEAST_VARIANCE = 0.01
"""Share of the mean variance of a layer's channels that is added to that of each, so that rare channels do not count
more than all others."""


class _Distribution(Objective):
    """An objective that compares the activations of several layers, each as a set of values per channel."""

    layer: str
    others: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the names of the layers.

        Raises:
            SettingError: They are not names.
        """
        super().__post_init__()
        others = (self.others,) if isinstance(self.others, str) else self.others
        if not isinstance(others, tuple | list):
            raise SettingError(f"others of {type(self).__name__} must be names of layers, got {shown(others)}")
        for name in others:
            check_text(f"each of the others of {type(self).__name__}", name)
        object.__setattr__(self, "others", tuple(others))

    @property
    def layers(self) -> frozenset[str]:
        """The layer and the others."""
        return frozenset({self.layer, *self.others})

    @property
    def traits(self) -> Traits:
        """Compares the positions of the whole view."""
        return Traits(needs_full_view=True)


@dataclass(frozen=True)
class MatchDistribution(OfPhotographs, _Distribution):
    """The similarity of the distribution of activations to that in photographs, at any positions.

    For each channel of a layer, the activations at all positions are sorted. The sorted activations of the photographs
    are averaged to r: the largest with the largest, and so on. The score is minus the mean over channels and layers of
    mean (a - r)² / v, with the sorted activations a of the image and the variance v of the channel over positions and
    photographs, to which 1 % of the mean variance of the layer's channels is added. It is <= 0: 0 where the
    distributions are equal, about -1 for an image without any of the features.

    Add it to a unit, with a weight, as `apps.match.match_units` does with it and `MatchSpectrum`: images then have the
    colours, textures and amounts of features of the photographs. For a class, use one photograph: images that are
    matched to the average of many are more alike than photographs are. For channels, `apps.match.match_units` averages
    ten (docs/quality.md).

    Args:
        layer: Dotted module name of a feature map or of tokens.
        photographs: A folder, with its subfolders; or a sequence of files, or of (channels, h, w) in [0, 1]; 1000 at
            most. Each is centre-cropped to the aspect ratio of the view, then resized to it. A folder is listed once,
            when the objective is made; a recipe holds the files.
        others: More layers; each counts as much as the first.

    Raises:
        SettingError: There is no photograph, or there are too many, or one is neither a file nor numbers in [0, 1].
        OutputError: The folder has no images.

    Source: VITAL, Görgün et al. 2025, https://arxiv.org/abs/2503.22399, sort-matching of feature distributions.
    Differs: divided by the variance of each channel, so that a weight suits layers and networks of any scale.
    """

    layer: str
    photographs: Photographs
    others: tuple[str, ...] = ()
    text_name = "distribution"

    def __str__(self) -> str:
        """Return its text, with the number of photographs where there are several."""
        layers = ", ".join([quote_name(self.layer), show_photographs(self.photographs), *map(quote_name, self.others)])
        return f"{self.text_name}({layers})"

    def bind(self, context: RenderContext) -> Objective:
        """Read the photographs, and average their sorted activations.

        Raises:
            OutputError: A file cannot be read.
        """
        layers = (self.layer, *self.others)
        targets = sorted_means(self.photographs, layers, context)

        def score(acts: Activations) -> Tensor:
            apart = [sorted_distance(acts.channels_first(layer), *targets[layer], layer) for layer in layers]
            return -torch.stack(apart).mean(0)

        return Bound(self, score)


@dataclass(frozen=True)
class MatchStatistics(_Distribution):
    """The similarity of the mean and standard deviation of each channel to those that batch norm saw in training.

    No photographs are needed. The score is minus the mean over channels and layers of
    ((mean - m)² + (standard deviation - s)²) / s², with the mean m and standard deviation s of a batch-norm layer's
    output over the training data; s² contains 1 % of the mean variance of the layer's channels. It is <= 0.

    Args:
        layer: Dotted module name of a batch-norm layer, or of one that passes on the output of one.
        others: More layers; each counts as much as the first.

    Raises:
        SettingError: `layer` or one of `others` is no text.

    Source: Yin et al. 2020, https://arxiv.org/abs/1912.08795, section 3.2.
    Differs: standard deviations of one image instead of variances of a batch; divided by the running variance.
    """

    layer: str
    others: tuple[str, ...] = ()
    text_name = "statistics"

    def __str__(self) -> str:
        """Return its text."""
        return f"{self.text_name}({', '.join(map(quote_name, (self.layer, *self.others)))})"

    def bind(self, context: RenderContext) -> Objective:
        """Read the running statistics.

        Raises:
            SettingError: A layer is no batch norm, or keeps no running statistics.
        """
        layers = (self.layer, *self.others)
        targets = {layer: _statistics(layer, context) for layer in layers}

        def score(acts: Activations) -> Tensor:
            apart = [statistics_distance(acts.channels_first(layer), *targets[layer]) for layer in layers]
            return -torch.stack(apart).mean(0)

        return Bound(self, score)


def sorted_means(
    photographs: Sequence[str | Array], layers: Sequence[str], context: RenderContext
) -> dict[str, tuple[Float[Tensor, "channel position"], Float[Tensor, " channel"]]]:
    """Return the mean over photographs of the sorted activations of each channel, and the variance of each channel.

    Args:
        photographs: Paths and arrays.
        layers: Names of the layers.
        context: What runs the network, and the size of the view.

    Raises:
        OutputError: A file cannot be read.
        AddressError: A layer has no positions.
    """
    moments: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    centres: dict[str, Tensor] = {}
    for first in range(0, len(photographs), CHUNK):
        some = photographs[first : first + CHUNK]
        images = torch.stack([read_for(context, each, context.input_size) for each in some])
        with torch.no_grad():
            acts = capture_for(context, images, layers)
            for layer in layers:
                values = positions_of(acts.channels_first(layer), layer)
                # Without a subtracted centre, the variance would be a small difference of large numbers.
                centred = values - centres.setdefault(layer, values.mean((0, 2)))[:, None]
                parts = values.sort(2).values.sum(0), centred.sum((0, 2)), centred.square().sum((0, 2))
                sums = moments[layer]
                moments[layer] = [a + b for a, b in zip(sums, parts, strict=True)] if sums else list(parts)
    statistics, count = {}, len(photographs)
    for layer, (ordered, total, squares) in moments.items():
        places = count * ordered.shape[1]
        variance = (squares / places - (total / places).square()).clamp(min=0)
        least = LEAST_VARIANCE * variance.mean() + torch.finfo(variance.dtype).tiny
        statistics[layer] = ordered / count, variance + least
    return statistics


def sorted_distance(
    values: Float[Tensor, "n channel *position"],
    target: Float[Tensor, "channel position"],
    variance: Float[Tensor, " channel"],
    layer: str,
) -> Float[Tensor, " n"]:
    """Return the mean over channels of the mean squared difference of sorted values, divided by the variance.

    Args:
        values: Activations of the images.
        target: Sorted values to compare with; resampled where there is another number of positions.
        variance: Variance of each channel.
        layer: Name of the layer, for the message.

    Raises:
        AddressError: The layer has no positions, or another number of channels.
    """
    ordered = positions_of(values, layer).sort(2).values
    if ordered.shape[1] != len(target):
        raise AddressError(f"{layer!r} must have {len(target)} channels as for the photographs, got {ordered.shape[1]}")
    if ordered.shape[2] != target.shape[1]:
        target = F.interpolate(target[None], ordered.shape[2], mode="linear", align_corners=True)[0]
    return ((ordered - target).square().mean(2) / variance).mean(1)


def statistics_distance(
    values: Float[Tensor, "n channel *position"], mean: Float[Tensor, " channel"], std: Float[Tensor, " channel"]
) -> Float[Tensor, " n"]:
    """Return the mean over channels of the squared differences of mean and standard deviation, divided by the variance.

    Args:
        values: Activations of the images.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """
    flat = values.unsqueeze(-1).flatten(2)
    # The square root has an infinite gradient at 0, for channels that are constant in a view.
    found = (flat.var(2, correction=0) + (1e-3 * std).square()).sqrt()
    return (((flat.mean(2) - mean).square() + (found - std).square()) / std.square()).mean(1)


def positions_of(values: Float[Tensor, "n channel *position"], layer: str) -> Float[Tensor, "n channel position"]:
    """Return the values with one axis of positions.

    Raises:
        AddressError: The layer has no positions.
    """
    if values.ndim < 3:
        raise AddressError(f"{layer or 'logit'!r} has no positions to sort; name a feature map or tokens")
    return values.flatten(2)


def _statistics(layer: str, context: RenderContext) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of the output of a batch-norm layer in training.

    Raises:
        SettingError: The layer is not a batch normalisation, or keeps no running statistics.
    """
    found = None if context.batch_statistics is None else context.batch_statistics(layer)
    if found is None:
        raise SettingError(
            f"{layer!r} keeps no batch-norm statistics; name a batch-norm layer, or match photographs instead"
        )
    mean, std = found
    variance = std.square()
    return mean, (variance + LEAST_VARIANCE * variance.mean()).sqrt()
