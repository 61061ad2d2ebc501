"""What given images score, with nothing rendered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.activations import Activations
from featviz.errors import SettingError
from featviz.network import Network, See
from featviz.objectives import parse
from featviz.picture import check_numbers
from featviz.plan import Plan
from featviz.protocols import Binding, Scene, Scorer, Size

Goals = str | Scorer | Sequence[str | Scorer]


@dataclass(frozen=True)
class Asked:
    """Objectives that can be asked about images for as long as `asking` lasts; gradients reach the images.

    Args:
        goals: the objectives.
        see: looks at images.
    """

    goals: tuple[Scorer, ...]
    see: See

    def __call__(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n goals"]:
        """Return every image's score by every objective."""
        return self.scores(self.activations(images))

    def activations(self, images: Float[Tensor, "n c h w"]) -> Activations:
        """Return what the layers put out."""
        return self.see(images).of(images, done=1.0)

    def scores(self, acts: Activations) -> Float[Tensor, "n goals"]:
        """Return what the objectives make of that."""
        return torch.stack([goal(acts) for goal in self.goals], 1)


@contextmanager
def asking(
    network: Network, objective: Goals, size: Size, *, layers: Iterable[str] = (), plan: Plan = Plan("float32")
) -> Iterator[Asked]:
    """Open a network to ask one or several objectives about images; afterwards it is as it was.

    Args:
        network: what sees them.
        objective: an expression, an objective, or several of either.
        size: height and width in px of the images.
        layers: what else to capture.
        plan: how to run the network.

    Raises:
        AddressError: the network has no such unit or layer, or the expression cannot be read.
        SettingError: there is no objective.
    """
    several = [objective] if isinstance(objective, str) or not isinstance(objective, Sequence) else objective
    goals = [parse(goal) if isinstance(goal, str) else goal for goal in several]
    if not goals:
        raise SettingError("nothing to ask; give at least one objective")
    scene = Scene(network.capture, network.channels, size, size)
    bound = tuple(goal.bind(scene) if isinstance(goal, Binding) else goal for goal in goals)
    with network.watch(frozenset(layers).union(*(goal.layers for goal in goals)), plan) as see:
        yield Asked(bound, see)


@torch.no_grad()
def score(network: Network, objective: Goals, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n goals"]:
    """Ask one or several objectives about images, in one forward pass.

    Args:
        network: what sees them.
        objective: an expression, an objective, or several of either.
        images: in [0, 1], of a size that the network takes.

    Returns:
        Every image's score by every objective, on the CPU.

    Raises:
        AddressError: the network has no such unit, or the expression cannot be read.
        SettingError: the images do not have the network's channels, or are not in [0, 1].
    """
    network.check_images(images)
    check_numbers(images, "images")
    with asking(network, objective, (images.shape[-2], images.shape[-1])) as ask:
        return ask(images.to(network.device)).cpu()
