"""What given images score, with nothing rendered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.network import Network
from featviz.objectives import parse
from featviz.plan import Plan
from featviz.protocols import Binding, Scene, Scorer


@torch.no_grad()
def score(
    network: Network, objective: str | Scorer | Sequence[str | Scorer], images: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n goals"]:
    """Ask one or several objectives about images, in one forward pass.

    Args:
        network: what sees them.
        objective: an expression, an objective, or several of either.
        images: in [0, 1], of a size that the network takes.

    Returns:
        Every image's score by every objective, on the CPU.

    Raises:
        AddressError: the network has no such unit, or the expression cannot be read.
        SettingError: the images do not have the network's channels.
    """
    several = [objective] if isinstance(objective, str) or not isinstance(objective, Sequence) else objective
    goals = [parse(goal) if isinstance(goal, str) else goal for goal in several]
    network.check_images(images)
    view = images.shape[-2], images.shape[-1]
    scene = Scene(network.capture, network.channels, view, view)
    bound = [goal.bind(scene) if isinstance(goal, Binding) else goal for goal in goals]
    images = images.to(network.device)
    with network.watch(frozenset().union(*(goal.layers for goal in goals)), Plan("float32")) as see:
        acts = see(images).of(images, done=1.0)
        return torch.stack([goal(acts) for goal in bound], 1).cpu()
