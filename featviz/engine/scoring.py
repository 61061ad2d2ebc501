"""Score given images without optimising anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.engine.entry_point import entry_point
from featviz.engine.monitor import NOT_DIFFERENTIABLE, check_differentiable
from featviz.errors import RenderError, SettingError
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


def checked_scores(scores: Any, count: int, objective: object) -> Float[Tensor, " n"]:
    """Return what an objective returned, after a check.

    Args:
        scores: What it returned.
        count: Number of images.
        objective: The objective, for the message.

    Raises:
        SettingError: `scores` is not one real number per image.
    """
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if shape != (count,):
        raise SettingError(
            f"an objective must return one score per image, here a tensor of shape ({count},); {objective} returned "
            f"{shape}"
        )
    if scores.is_complex():
        raise SettingError(f"scores must be real, and {objective} returned complex ones; take e.g. their abs()")
    return scores if scores.is_floating_point() else scores.float()


def bind(objectives: Sequence[ObjectiveLike], network: Network, size: Size, view: Size) -> tuple[ObjectiveLike, ...]:
    """Bind objectives to a network and a size, for those that must read or compute something first.

    Args:
        objectives: The objectives.
        network: The network.
        size: Length of each axis of the images in px.
        view: Size of one network input in px: of the view, or of one of its tiles.
    """
    context = RenderContext(
        capture=network.capture,
        channels=network.channels,
        size=size,
        view=view,
        embed_texts=network.embed_texts,
        batch_statistics=partial(batch_statistics, network.module),
        inputs=tuple(network.inputs),
        per_image=network.given_per_image,
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
