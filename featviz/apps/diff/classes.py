"""Compare the images of a class in two networks by the class probabilities of a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.arguments.classes import class_title, find_classes
from featviz.apps.shared.judging.judge_crops import crops
from featviz.apps.shared.judging.predictions import predict
from featviz.io import resize
from featviz.network import OUTPUT, index_of_class

MAX_CLASSES = 100
"""Number of classes that are compared by default: those whose logits are correlated least over the photographs."""


@dataclass(frozen=True)
class ClassChange:
    """A class of both networks, and how much its image changed.

    Args:
        title: Name of the class.
        indices: Index of the class in the first and in the second network.
        correlation: Pearson's correlation of both logits over the photographs, in [-1, 1].
        change: Jensen-Shannon divergence of the judge's class probabilities for the images of both networks, in bits,
            in [0, 1]; `None` without a judge, or if an image is missing.
        probabilities: Probability of the class in the images of both networks according to the judge; `None` without a
            judge, or if it has no such class.
        deviations: Standard deviation of the logit of each network over the photographs.
        transfer_loss: Logit of a network for its own image minus that for the other network's image, in standard
            deviations over the photographs; the sum of both directions. About 0
            for a class that both networks see in the same patterns; `None` if an image is missing.
    """

    title: str
    indices: tuple[int, int]
    correlation: float
    change: float | None = None
    probabilities: tuple[float, float] | None = None
    deviations: tuple[float, float] = (1.0, 1.0)
    transfer_loss: float | None = None


def common_classes(
    first: fv.Network, second: fv.Network, chosen: Sequence[str | int] | None
) -> list[tuple[str, int, int]]:
    """Match the classes of two networks, by name where both have names, else by index.

    Args:
        first: The first network.
        second: The second network.
        chosen: Names or indices of classes of the first network; `None` for all that both have.

    Returns:
        Title, index in the first and index in the second network of each; empty if the networks are no classifiers.

    Raises:
        AddressError: The first network has no such class.
        SettingError: The second network has no such class, or one of them is no classifier.
    """
    heads = first.logits_layer, second.logits_layer
    if heads[0] is None or heads[1] is None:
        if chosen is not None:
            which = first if heads[0] is None else second
            raise fv.SettingError(f"classes needs two classifiers, {which.label} has no class logits; leave it out")
        return []
    indices = range(heads[0].channels) if chosen is None else dict.fromkeys(find_classes(first, chosen))
    found = []
    for index in indices:
        other = _index_in(first, index, second, heads[1].channels)
        title = class_title(first, index)
        if other is not None:
            found.append((title, index, other))
        elif chosen is not None:
            raise fv.SettingError(f"both networks must have the class {title!r}, {second.label} has not; leave it out")
    return found


def _index_in(first: fv.Network, index: int, second: fv.Network, count: int) -> int | None:
    """Return the index of a class of the first network in the second one; `None` where it has no such class."""
    if not first.classes or not second.classes or first.classes == second.classes:
        return index if index < count else None
    return index_of_class(first.classes[index], second.classes) if index < len(first.classes) else None


def recognise(images: Sequence[Float[Tensor, "c h w"]], judge: fv.Network) -> Float[Tensor, " classes"]:
    """Return the class probabilities of a judge, averaged over images and over nine crops of each.

    Args:
        images: In [0, 1], of any size.
        judge: A classifier.

    Returns:
        Probabilities that add up to 1, also of independent labels.

    Raises:
        AddressError: The judge has no class probabilities.
        ModelError: Its output is not finite.
    """
    mean = torch.stack([predict(judge, crops(image, judge.size)).mean(0) for image in images]).double().mean(0)
    return mean / mean.sum().clamp(min=1e-12)


def transfer_loss(
    networks: tuple[fv.Network, fv.Network],
    change: ClassChange,
    images: tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]],
) -> float:
    """Return by how much less class images excite their class in the other network than its own images do.

    A class image shows the pattern that excites the class most, also one that no photograph has, such as the trigger of
    a backdoor. The other network does not respond to a pattern that it has not learned.

    Args:
        networks: Both networks.
        change: The class.
        images: The class images of both networks, in [0, 1].

    Returns:
        `(A(a) - A(b)) / std(A) + (B(b) - B(a)) / std(B)` for the logits A and B of the networks, their images a and b,
        and standard deviations over the photographs; a mean over the images.

    Raises:
        ModelError: A logit is not finite.
    """
    total = 0.0
    for k, (network, index, deviation) in enumerate(zip(networks, change.indices, change.deviations, strict=True)):
        with torch.no_grad():
            own, others = (
                network.capture(resize(each, network.size), [OUTPUT]).logits() for each in (images[k], images[1 - k])
            )
        loss = float((own[:, index].double().mean() - others[:, index].double().mean()).cpu())
        if not math.isfinite(loss):
            raise fv.ModelError(f"the output of {network.label} is not finite; check its weights, mean and std")
        total += loss / deviation if loss else 0.0
    return total


def divergence(p: Float[Tensor, " n"], q: Float[Tensor, " n"]) -> float:
    """Return the Jensen-Shannon divergence of two distributions, in bits.

    Args:
        p: Probabilities that add up to 1.
        q: Probabilities that add up to 1.

    Returns:
        In [0, 1]: 0 for equal distributions, 1 for distributions that do not overlap.

    Source: Lin 1991, https://doi.org/10.1109/18.61115.

    >>> divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    1.0
    """
    middle = (p + q) / 2

    def relative_entropy(r: Tensor) -> Tensor:
        return torch.xlogy(r, r).sum() - torch.xlogy(r, middle).sum()

    bits = (relative_entropy(p) + relative_entropy(q)) / 2 / torch.log(torch.tensor(2.0))
    return float(bits.clamp(0, 1))
