"""Contributions of the parts of a layer to class logits: by integrated gradients, and by ablation to the mean.

Positions are compared with the layer's mean, since zero is outside of the range of its activations. Sums are measured
from zero, because before a mean over positions and a linear layer, a layer at its mean has the same logits.
"""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.network import Activations, Forward

PASSES = 16
"""Number of changed copies of an image that run together."""
WINDOW = 2
"""Side in cells of the windows that are replaced."""


def integrated_gradients(
    forward: Forward,
    images: Float[Tensor, "n c *size"],
    acts: Activations,
    layer: str,
    classes: Int[Tensor, "n k"],
    baseline: Float[Tensor, "n channel *position"],
    steps: int,
) -> Float[Tensor, "n k channel *position"]:
    """Return the contribution of each activation of a layer, by integrated gradients.

    The contributions to a class add up to the rise of its logit over the same image with the layer at the baseline, to
    within the error of the integration.

    Args:
        forward: The network, opened with the layer and the output.
        images: In [0, 1].
        acts: What `forward` returned for them.
        layer: Name of a layer with positions.
        classes: Indices of classes, by image.
        baseline: Activations at which the path of integration starts.
        steps: Number of steps of the integration, by the midpoint rule.

    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    Differs: the activations of a layer take the place of the image.
    """
    maps = acts.as_map(layer).detach()
    change = baseline - maps
    whole, distance = acts[layer].detach(), _as_output(acts, layer, change)
    total = torch.stack([torch.zeros_like(maps)] * classes.shape[1], 1)
    for step in range(steps):
        leaf = (whole + (step + 0.5) / steps * distance).requires_grad_()
        logits = forward(images, replace={layer: lambda _, leaf=leaf: leaf}).logits().gather(1, classes)  # type: ignore[misc]
        for k in range(classes.shape[1]):
            # The logit of an image does not depend on the other images.
            (gradient,) = torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=k + 1 < classes.shape[1])
            total[:, k] += acts.replaced({layer: gradient}).as_map(layer) / steps
    return total * -change[:, None]


def position_contributions(
    forward: Forward,
    images: Float[Tensor, "n c *size"],
    acts: Activations,
    layer: str,
    classes: Int[Tensor, "n k"],
    steps: int,
) -> Float[Tensor, "n k *position"]:
    """Return the contribution of each position of a layer, by integrated gradients from the layer's mean.

    A constant makes the positions add up to the fall of the logit when the whole layer is set to zero.

    Args:
        forward: The network, opened with the layer and the output.
        images: In [0, 1].
        acts: What `forward` returned for them.
        layer: Name of a layer with positions.
        classes: Indices of classes, by image.
        steps: Number of steps of the integration.
    """
    maps = acts.as_map(layer).detach()
    mean = maps.flatten(2).mean(2).view(*maps.shape[:2], *[1] * (maps.ndim - 2)).expand_as(maps)
    found = integrated_gradients(forward, images, acts, layer, classes, mean, steps).sum(2)
    at_zero = acts[layer].detach() - _as_output(acts, layer, maps)
    with torch.no_grad():
        rise = acts.logits() - forward(images, replace={layer: lambda _: at_zero}).logits()
    return _with_sum(found, rise.gather(1, classes))


@torch.no_grad()
def ablation_effects(
    forward: Forward,
    image: Float[Tensor, "1 c *size"],
    acts: Activations,
    layer: str,
    changes: Float[Tensor, "m channel *position"],
    classes: list[int],
) -> Float[Tensor, "classes m"]:
    """Return by how much class logits fall when activations change.

    Args:
        forward: The network, opened with the layer and the output.
        image: In [0, 1].
        acts: What `forward` returned for it.
        layer: Name of a layer with positions.
        changes: What is added to the activations, once per change.
        classes: Indices of classes.
    """
    before, output = acts.logits()[0, classes], acts[layer].detach()
    after = []
    for some in changes.split(PASSES):
        changed = output + _as_output(acts, layer, some)
        images = image.expand(len(some), *image.shape[1:])
        after.append(forward(images, replace={layer: lambda _, changed=changed: changed}).logits()[:, classes])  # type: ignore[misc]
    return (before - torch.cat(after)).T


def cell_contributions(
    forward: Forward,
    image: Float[Tensor, "1 c *size"],
    acts: Activations,
    layer: str,
    cells: Float[Tensor, "*cells_and_position"],
    classes: list[int],
) -> Float[Tensor, "classes *cells"]:
    """Return the contribution of each cell of a layer to class logits, by ablation.

    Windows of two cells along each axis are replaced by the layer's mean, at every place. A cell gets its share of the
    fall of the logit in each window over it, averaged. Single cells would say less: what one of them shows, its
    neighbours show too. A constant makes the cells add up to the fall of the logit when the whole layer is set to zero.

    Args:
        forward: The network, opened with the layer and the output.
        image: In [0, 1].
        acts: What `forward` returned for it.
        layer: Name of a layer with positions.
        cells: Which part of each position lies in each cell, in [0, 1]: axes of cells, then as many of positions.
        classes: Indices of classes.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, section 4.2, occlusion of the image.
    Differs: activations of a layer are replaced, by their mean, and a constant is added.
    """
    maps = acts.as_map(layer)[0].detach()
    sides = cells.shape[: maps.ndim - 1]
    starts = product(*(range(1 - WINDOW, side) for side in sides))
    windows = [tuple(slice(max(at, 0), at + WINDOW) for at in start) for start in starts]
    masks = torch.stack([cells[window].flatten(0, len(sides) - 1).sum(0) for window in windows])
    mean = maps.flatten(1).mean(1).view(-1, *[1] * len(sides))
    changes = torch.cat([masks[:, None] * (mean - maps), -maps[None]])
    effects = ablation_effects(forward, image, acts, layer, changes, classes)
    found = effects.new_zeros(len(classes), *sides)
    for window, effect in zip(windows, effects[:, :-1].T, strict=True):
        share = found[:, *window]
        share += effect.view(-1, *[1] * len(sides)) / (share[0].numel() * WINDOW ** len(sides))
    return _with_sum(found, effects[:, -1])


def _with_sum(maps: Tensor, total: Float[Tensor, " *n"]) -> Tensor:
    """Add a constant to each map (*n, *position), so that it has a sum."""
    flat = maps.flatten(total.ndim)
    return (flat + ((total - flat.sum(-1)) / flat.shape[-1])[..., None]).view(maps.shape)


@torch.enable_grad()
def _as_output(acts: Activations, layer: str, maps: Float[Tensor, "m channel *position"]) -> Tensor:
    """Return maps in the form of the layer's output, with zeros at tokens that are not on the patch grid.

    `as_map` only selects and reorders, so its derivative puts each value where it was read.
    """
    leaf = acts[layer].new_zeros(len(maps), *acts[layer].shape[1:]).requires_grad_()
    (output,) = torch.autograd.grad(acts.replaced({layer: leaf}).as_map(layer), leaf, maps)
    return output
