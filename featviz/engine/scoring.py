"""Score given images without optimising anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.engine.arguments import entry_point
from featviz.interfaces import Bindable, ObjectiveLike, RenderContext, Size
from featviz.io import check_unit_range
from featviz.network import Execution, Forward, Network, batch_statistics
from featviz.network.activations import Activations
from featviz.objectives import ObjectiveSource, as_objectives


@dataclass(frozen=True)
class Scorer:
    """Scores images while the network is open. Scores are differentiable with respect to the images.

    Args:
        objectives: The objectives, bound to the image size.
        forward: Runs the network.
    """

    objectives: tuple[ObjectiveLike, ...]
    forward: Forward

    def __call__(self, images: Float[Tensor, "n c *size"]) -> Float[Tensor, "n objectives"]:
        """Return the score of every image for every objective."""
        return self.scores(self.activations(images))

    def activations(self, images: Float[Tensor, "n c *size"]) -> Activations:
        """Return the activations of the captured layers."""
        return self.forward(images).of(images, done=1.0)

    def scores(self, acts: Activations) -> Float[Tensor, "n objectives"]:
        """Return the scores for given activations."""
        return torch.stack([objective(acts) for objective in self.objectives], 1)


def bind(objectives: Sequence[ObjectiveLike], network: Network, size: Size, view: Size) -> tuple[ObjectiveLike, ...]:
    """Bind objectives to a network and a size: those that depend on either become ones that hold what they need.

    Args:
        objectives: The objectives.
        network: What sees the images.
        size: Length of each axis of the images in px.
        view: The same of what the network sees of them at once: the images, or tiles of them.
    """
    context = RenderContext(
        network.capture,
        network.channels,
        size,
        view,
        network.embed_texts,
        partial(batch_statistics, network.module),
        tuple(network.inputs),
        network.given_per_image,
    )
    return tuple(each.bind(context) if isinstance(each, Bindable) else each for each in objectives)


@contextmanager
def open_scorer(
    network: Network,
    objective: ObjectiveSource | Sequence[ObjectiveSource],
    size: Size,
    *,
    layers: Iterable[str] = (),
    execution: Execution = Execution("float32"),
) -> Iterator[Scorer]:
    """Open a network to score images while the context lasts.

    Args:
        network: What sees the images.
        objective: Text, an objective, or a sequence of either.
        size: Length of each axis of the images in px.
        layers: Further layers to capture.
        execution: How to run the network.

    Yields:
        A `Scorer`: images (n, c, h, w) in [0, 1] on the network's device → scores (n, objectives), differentiable.

    Raises:
        AddressError: The network has no such layer, channel or class, or the text cannot be parsed.
        SettingError: There is no objective.
    """
    objectives = as_objectives(objective)
    bound = bind(objectives, network, size, size)
    with network.session(frozenset(layers).union(*(each.layers for each in objectives)), execution) as forward:
        yield Scorer(bound, forward)


@entry_point(any_axes=True, per_image=True)
@torch.no_grad()
def score(
    network: Network, objective: ObjectiveSource | Sequence[ObjectiveSource], images: Float[Tensor, "n c *size"]
) -> Float[Tensor, "n objectives"]:
    """Score images by one or several objectives, in one forward pass.

    Args:
        network: What sees the images.
        objective: Text, an objective, or a sequence of either.
        images: (n, c, h, w) in [0, 1], of a size that the network accepts; signals and volumes as
            `network.input.images(values)` returns them.

    Returns:
        The score of every image for every objective, on the CPU.

    Raises:
        AddressError: The network has no such layer, channel or class, or the text cannot be parsed.
        SettingError: The images do not have the network's channels, or are not in [0, 1].
    """
    network.check_images(images)
    check_unit_range(images, "images")
    with open_scorer(network, objective, tuple(images.shape[2:])) as scorer:
        return scorer(images.to(network.device)).cpu()
