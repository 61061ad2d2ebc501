"""Score given images, without optimising anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.engine.binding import bind, checked_scores
from featviz.engine.entry_point import entry_point
from featviz.engine.monitor import NOT_DIFFERENTIABLE, check_differentiable
from featviz.errors import RenderError
from featviz.interfaces import ObjectiveLike, Size
from featviz.io import check_unit_range
from featviz.network import Execution, Forward, Network
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
        """Return the activations of the captured layers.

        Raises:
            RenderError: The images need a gradient, and no layer gives them one.
        """
        acts = self.forward(images).of(images, done=1.0)
        needs_gradient = torch.is_grad_enabled() and images.requires_grad and len(acts)
        if needs_gradient and not any(each.requires_grad for each in acts.values()):
            raise RenderError(NOT_DIFFERENTIABLE)
        return acts

    def scores(self, acts: Activations) -> Float[Tensor, "n objectives"]:
        """Return the scores for given activations.

        Raises:
            SettingError: An objective does not return one score per image.
            RenderError: The activations have a gradient, and no score has one.
        """
        scores = torch.stack([checked_scores(each(acts), len(acts.each_input[0]), each) for each in self.objectives], 1)
        if torch.is_grad_enabled() and any(each.requires_grad for each in acts.values()):
            check_differentiable(scores, NOT_DIFFERENTIABLE)
        return scores


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
        network: The network.
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
        network: The network.
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
