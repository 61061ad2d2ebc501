"""Measure how faithful an attribution map is: the score while the most relevant parts are inserted or deleted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

import featviz as fv
from featviz.apps.explain.request import box_averaged, scores_of
from featviz.errors import AddressError, SettingError
from featviz.interfaces import ObjectiveLike
from featviz.io import linear_mode

STEPS = 16
"""Number of equal parts in which the image is inserted or deleted."""
RANKING_DIVISOR = 13
"""Maps are box-averaged over the shorter side divided by this before their pixels are ranked: 5 of 64 px."""
BLURRED_SIDE = 4
"""Side in px to which an image is reduced for its blurred copy."""


@dataclass(frozen=True)
class Faithfulness:
    """Scores while the parts of an image appear and disappear, the most relevant first.

    Args:
        insertion: Score after each step of inserting parts into an empty image, which it starts with.
        deletion: Score after each step of deleting parts from the image, which it starts with.
        scored: Text of the objective that is scored.
    """

    insertion: tuple[float, ...]
    deletion: tuple[float, ...]
    scored: str

    @property
    def insertion_area(self) -> float:
        """Mean height of the insertion curve: the larger, the more faithful."""
        return curve_area(self.insertion)

    @property
    def deletion_area(self) -> float:
        """Mean height of the deletion curve: the smaller, the more faithful."""
        return curve_area(self.deletion)


def measure_faithfulness(
    network: fv.Network,
    image: Float[Tensor, "c *size"],
    target: ObjectiveLike,
    relevance: Float[Tensor, "*size"],
    *,
    empty: Float[Tensor, "c *size"] | None = None,
    steps: int = STEPS,
) -> Faithfulness:
    """Score an image while its pixels are inserted and deleted in the order of their relevance; or a text, its tokens.

    If a few pixels that a map calls relevant are enough for the score, and if the score falls without them, the map
    is faithful to the network. Agreement with human judgement is not measured.

    Args:
        network: The network; one that reads text is bound to the text.
        image: The image, signal, volume or clip, in [0, 1], or the embedding sequence of the text.
        target: What was explained. For a class, score its probability if there is one.
        relevance: Contribution of each pixel or token.
        empty: What deleted pixels become; `None` for a blurred copy of the image, or for an empty text.
        steps: Number of equal parts, >= 1; at most one for each pixel or token. One more image than this is scored for
            each curve.

    Returns:
        Both curves, from no pixel to all.

    Raises:
        SettingError: `steps` is < 1.

    Source: Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, section 4.1.
    Differs: both curves use a blurred image, where the paper deletes to grey; pixels are ranked by means of their
    neighbourhoods, because single pixels of gradients are noise.
    """
    if steps < 1:
        raise SettingError(f"steps must be >= 1, got {steps} (default {STEPS})")
    steps = min(steps, relevance.numel())
    if empty is None:
        empty = blur(image) if network.tokens is None else empty_text(network)
    image, nothing = image.cpu(), empty.cpu()
    masks = reveal(relevance, steps)
    views = torch.cat([torch.where(masks, image, nothing), torch.where(masks, nothing, image)])
    goal, scores = _score(network, target, views)
    return Faithfulness(tuple(scores[: steps + 1].tolist()), tuple(scores[steps + 1 :].tolist()), str(goal))


def reveal(relevance: Float[Tensor, "*size"], steps: int) -> Bool[Tensor, "n 1 *size"]:
    """Return which pixels are among the most relevant, from none of them to all in equal steps.

    Args:
        relevance: Contribution of each pixel.
        steps: Number of steps; there is one mask more.
    """
    side = min(relevance.shape) // RANKING_DIVISOR | 1
    smooth = box_averaged(relevance[None, None], side)
    order: Int[Tensor, " pixels"] = smooth.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).view(1, *relevance.shape)
    return torch.stack([rank < len(order) * i / steps for i in range(steps + 1)])


def blur(image: Float[Tensor, "c *size"]) -> Float[Tensor, "c *size"]:
    """Return a copy that shows the colours of an image and none of its shapes; of a signal, its slow trend."""
    if image.ndim != 3:  # means of parts, since signals and volumes are resized without antialiasing
        small = F.interpolate(image[None], [min(BLURRED_SIDE, side) for side in image.shape[1:]], mode="area")
        return F.interpolate(small, image.shape[1:], mode=linear_mode(small))[0]
    small = F.interpolate(image[None], (BLURRED_SIDE, BLURRED_SIDE), mode="bilinear", antialias=True)
    return F.interpolate(small, image.shape[1:], mode="bicubic")[0].clamp(0, 1)


def empty_text(network: fv.Network) -> Float[Tensor, "d 1 length"]:
    """Return the embedding sequence of a text whose tokens say nothing, except for the special ones.

    Args:
        network: A network that is bound to a text.

    Returns:
        Embeddings of the padding token; zeros where the network has none.
    """
    tokens = network.tokens
    assert tokens is not None
    pad = 0 if tokens.pad is None else tokens.pad
    kept = torch.tensor([each in tokens.special for each in network.ids])
    with torch.no_grad():
        embedded = network.embed([each if each in tokens.special else pad for each in network.ids])[0].cpu()
    return embedded if tokens.pad is not None else embedded * kept


def curve_area(scores: tuple[float, ...]) -> float:
    """Return the area under a curve over [0, 1], by the trapezoidal rule.

    >>> curve_area((0.0, 1.0, 1.0))
    0.75
    """
    return sum((before + after) / 2 for before, after in pairwise(scores)) / (len(scores) - 1)


def _score(
    network: fv.Network, target: ObjectiveLike, views: Float[Tensor, "n c *size"]
) -> tuple[ObjectiveLike, Float[Tensor, " n"]]:
    """Return the objective that is scored, and its scores: of a class the probability, where there is one."""
    if isinstance(target, fv.objectives.Logit):
        likely = fv.objectives.Probability(target.name, target.network)
        try:
            return likely, scores_of(network, [likely], views)[:, 0]
        except AddressError:  # the outputs are values of a regression, or there is only one
            pass
    return target, scores_of(network, [target], views)[:, 0]
