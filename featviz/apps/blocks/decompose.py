"""Decompose the activations of one image by cell, by channel and by group, each with its contribution to class logits.

The contribution of a cell or group is the fall of the logit without it; that of a channel is its integrated gradients.
docs/explain.md has the measurements by which these were chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.operations.contributions import ablation_effects, cell_contributions, integrated_gradients
from featviz.network import OUTPUT, Activations, Forward

STEPS = 8
"""Number of steps of integrated gradients."""
NMF_STEPS = 300
"""Number of steps of the non-negative matrix factorisation."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The decomposition of an image by one layer.

    Args:
        layer: Name of the layer.
        maps: Activations, averaged over each cell.
        support: Contribution of each cell to the logit of each class, by ablation.
        channels: Contribution of each channel to the logit of each class, by integrated gradients.
        groups: Direction of each group of neurons in the space of channels.
        shares: Weight of each group in each cell.
        effects: By how much the logit of each class falls without each group.
        sources: Contribution of each cell of the previous layer to the activation of each cell; `None` for the first
            layer.
    """

    layer: str
    maps: Float[Tensor, "channel *cells"]
    support: Float[Tensor, "classes *cells"]
    channels: Float[Tensor, "classes channel"]
    groups: Float[Tensor, "groups channel"]
    shares: Float[Tensor, "groups *cells"]
    effects: Float[Tensor, "classes groups"]
    sources: Float[Tensor, "count *previous"] | None


def take_apart(
    network: fv.Network,
    image: Float[Tensor, "1 c *size"],
    layers: list[str],
    classes: list[int],
    *,
    most: int,
    groups: int,
) -> list[Parts]:
    """Decompose an image layer by layer.

    Args:
        network: A classifier.
        image: In [0, 1].
        layers: Names of layers with positions, in the order in which they run.
        classes: Indices of classes.
        most: Maximum number of cells along the longest side, >= 1. The positions of finer maps are pooled.
        groups: Maximum number of groups per layer, >= 1.

    Returns:
        One decomposition per layer.

    Raises:
        AddressError: A layer has no positions, or the network has no class logits.
        ImportError: scikit-learn is not installed.
    """
    with network.session([*layers, OUTPUT]) as forward, torch.enable_grad():
        acts = forward(image.to(network.device).clone().requires_grad_())
        parts, axes = [], network.input.axes
        for i, layer in enumerate(layers):
            sources = _sources(acts, layers[i - 1], layer, most, axes) if i else None
            parts.append(_parts(forward, image.to(network.device), acts, layer, classes, sources, most, groups, axes))
        return parts


def _parts(
    forward: Forward,
    image: Float[Tensor, "1 c *size"],
    acts: Activations,
    layer: str,
    classes: list[int],
    sources: Float[Tensor, "count *previous"] | None,
    most: int,
    groups: int,
    axes: str,
) -> Parts:
    """Decompose the activations of a layer."""
    activations = acts.as_map(layer)[0].detach()
    cells = _grid(activations, most, axes)
    maps = _pool(activations, cells) / _positions_per_cell(activations, cells)
    directions, shares = _groups(maps, groups)
    of_class, zero = torch.tensor([classes], device=image.device), torch.zeros_like(activations)[None]
    tensors = (
        maps,
        cell_contributions(forward, image, acts, layer, _cells(activations, cells), classes),
        integrated_gradients(forward, image, acts, layer, of_class, zero, STEPS)[0].flatten(2).sum(2),
        directions,
        shares,
        _group_effects(forward, image, acts, layer, classes, directions, shares),
    )
    on_cpu = [tensor.detach().cpu() for tensor in tensors]
    return Parts(layer, *on_cpu, None if sources is None else sources.cpu())  # type: ignore[call-arg]


def _cells(maps: Float[Tensor, "channel *position"], cells: tuple[int, ...]) -> Float[Tensor, "*cells_and_position"]:
    """Return which part of each position lies in each cell, in [0, 1]: axes of cells, then those of positions."""
    found = maps.new_ones(())
    for axis, (side, count) in enumerate(zip(maps.shape[1:], cells, strict=True)):
        found = torch.tensordot(found, _overlap(side, count).to(maps), 0).movedim(-2, axis)
    return found


def _as_map(acts: Activations, layer: str, gradient: Tensor | None) -> Float[Tensor, "channel *position"]:
    """Return a gradient of a layer's output as a map; zeros where there is no gradient."""
    tensor = torch.zeros_like(acts[layer]) if gradient is None else gradient
    return acts.replaced({layer: tensor}).as_map(layer)[0].detach()


def _grid(maps: Float[Tensor, "channel *position"], most: int, axes: str) -> tuple[int, ...]:
    """Return the cells along each axis: those of the map, reduced so that the longest side has at most `most`.

    Time beside space is reduced on its own.
    """
    sides = tuple(maps.shape[1:])
    if axes == "tyx" and len(sides) == len(axes):
        return (min(sides[0], most), *_grid(maps[:, 0], most, "yx"))
    shrink = max(1.0, max(sides) / most)
    return tuple(max(1, round(side / shrink)) for side in sides)


def _pool(maps: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Sum a map (*more, *position) over each cell.

    A position on the border of cells is divided among them by area, so sums are kept.
    """
    for axis, count in enumerate(cells, maps.ndim - len(cells)):
        overlap = _overlap(maps.shape[axis], count).to(maps)
        maps = torch.tensordot(maps, overlap, ([axis], [1])).movedim(-1, axis)
    return maps


def _positions_per_cell(maps: Tensor, cells: tuple[int, ...]) -> float:
    return math.prod(maps.shape[-len(cells) :]) / math.prod(cells)


def _overlap(positions: int, cells: int) -> Float[Tensor, "cells positions"]:
    """Return which part of each position lies in each cell, in [0, 1]."""
    edges = torch.arange(cells + 1) * positions / cells
    first = torch.arange(positions)
    return (torch.minimum(edges[1:, None], first + 1) - torch.maximum(edges[:-1, None], first)).clamp(min=0)


def _groups(
    maps: Float[Tensor, "channel *cells"], count: int
) -> tuple[Float[Tensor, "groups channel"], Float[Tensor, "groups *cells"]]:
    """Factorise positive activations into groups: cells = weights of the groups times their directions, all >= 0.

    Returns:
        The directions and the weights, the group with the largest total first. No group if no activation is positive.
    """
    from sklearn.decomposition import NMF

    rows = maps.relu().flatten(1).T.double().cpu().numpy()
    count = min(count, *rows.shape)
    if not rows.any():
        return maps.new_zeros(0, len(maps)), maps.new_zeros(0, *maps.shape[1:])
    # A fixed number of steps: with tol=0 scikit-learn does not warn that it has not converged.
    model = NMF(count, init="nndsvda", tol=0, max_iter=NMF_STEPS, random_state=0)
    weights = model.fit_transform(rows)
    order = np.argsort(-weights.sum(0) * np.linalg.norm(model.components_, axis=1))
    directions = torch.from_numpy(model.components_[order].copy()).to(maps)
    return directions, torch.from_numpy(weights[:, order].T.copy()).to(maps).unflatten(1, maps.shape[1:])


def _group_effects(
    forward: Forward,
    image: Float[Tensor, "1 c *size"],
    acts: Activations,
    layer: str,
    classes: list[int],
    directions: Float[Tensor, "groups channel"],
    shares: Float[Tensor, "groups *cells"],
) -> Float[Tensor, "classes groups"]:
    """Return by how much the logit of each class falls if the activations of a group are subtracted."""
    if not len(directions):
        return directions.new_zeros(len(classes), 0)
    size = tuple(acts.as_map(layer).shape[2:])
    wide = F.interpolate(shares[None], size, mode="nearest")[0]
    changes = -torch.einsum("gc,g...->gc...", directions, wide)
    return ablation_effects(forward, image, acts, layer, changes, classes)


def _sources(acts: Activations, previous: str, layer: str, most: int, axes: str) -> Float[Tensor, "count *previous"]:
    """Return what each cell of the previous layer contributes to the activation of each cell of a layer.

    The activation of a cell is differentiated along its own direction, `grid · own / |own|`, which is its length.
    """
    activations, before = acts.as_map(layer)[0], acts.as_map(previous)[0].detach()
    cells = _grid(activations, most, axes)
    grid = (_pool(activations, cells) / _positions_per_cell(activations, cells)).flatten(1)
    sources = []
    for cell in range(grid.shape[1]):
        own = grid[:, cell].detach()
        length = (grid[:, cell] * own).sum() / own.norm().clamp(min=1e-9)
        (gradient,) = torch.autograd.grad(length, acts[previous], retain_graph=True, allow_unused=True)
        sources.append(_pool((_as_map(acts, previous, gradient) * before).sum(0), _grid(before, most, axes)))
    return torch.stack(sources)
