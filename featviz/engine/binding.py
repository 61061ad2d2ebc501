"""Bind objectives to a network, and check what they return."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Bindable, ObjectiveLike, RenderContext, Size
from featviz.network import Network, batch_statistics


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


def bind(
    objectives: Sequence[ObjectiveLike], network: Network, size: Size, input_size: Size
) -> tuple[ObjectiveLike, ...]:
    """Bind objectives to a network and a size, for those that must read or compute something first.

    Args:
        objectives: The objectives.
        network: The network.
        size: Length of each axis of the images in px.
        input_size: Size of one network input in px: of the view, or of one of its tiles.
    """
    context = RenderContext(
        capture=network.capture,
        channels=network.channels,
        size=size,
        input_size=input_size,
        embed_texts=network.embed_texts,
        batch_statistics=partial(batch_statistics, network.module),
        inputs=tuple(network.inputs),
        per_image=network.given_per_image,
    )
    return tuple(each.bind(context) if isinstance(each, Bindable) else each for each in objectives)
