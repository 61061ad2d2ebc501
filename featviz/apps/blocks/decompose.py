"""What a layer holds of one photograph: places, channels, groups, and what each does for the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv


@dataclass(frozen=True, eq=False)
class Parts:
    """A layer's view of a photograph.

    Args:
        layer: its name.
        maps: activations over the grid of cells.
        support: what each cell adds to the logit of each class.
        channels: what each channel adds to the logit of each class.
        groups: directions of the groups that the activations fall into.
        shares: how much of each group is in each cell.
        effects: what each group adds to the logit of each class.
        sources: for each cell, how much of what it holds comes from each cell of the layer before; `None` if there is
            none.
    """

    layer: str
    maps: Float[Tensor, "channel rows columns"]
    support: Float[Tensor, "classes rows columns"]
    channels: Float[Tensor, "classes channel"]
    groups: Float[Tensor, "groups channel"]
    shares: Float[Tensor, "groups rows columns"]
    effects: Float[Tensor, "classes groups"]
    sources: Float[Tensor, "cells rows columns"] | None


def take_apart(
    network: fv.Network,
    image: Float[Tensor, "1 c h w"],
    layers: list[str],
    classes: list[int],
    *,
    most: int,
    groups: int,
) -> list[Parts]:
    """Take a photograph apart, layer by layer.

    Args:
        network: what looks at it.
        image: in [0, 1].
        layers: in the order in which they run.
        classes: whose logits are followed back.
        most: cells along the longer side; finer maps are averaged.
        groups: how many to find in each layer.

    Raises:
        AddressError: a layer has no places.
    """
    with network.session([*layers, ""]) as forward, torch.enable_grad():
        acts = forward(image.to(network.device).clone().requires_grad_())
        tensors = [acts[layer] for layer in layers]
        logits = acts.logits()[0]
        back = [torch.autograd.grad(logits[index], tensors, retain_graph=True, allow_unused=True) for index in classes]
        found = []
        for i, layer in enumerate(layers):
            whole = acts.places(layer)[0].detach()
            gradients = torch.stack([_places(acts, layer, one[i]) for one in back])
            cells = _cells(whole, most)
            maps, support = _pooled(whole, cells) / _areas(whole, cells), _pooled(gradients * whole, cells)
            directions, shares = _groups(maps, groups)
            parts = _effects(gradients, directions, shares, whole.shape[1:])
            sources = None if not i else _sources(acts, layers[i - 1], layer, cells, most)
            tensors_of = (maps, support.sum(1), (gradients * whole).sum((2, 3)), directions, shares, parts)
            cpu = [tensor.detach().cpu() for tensor in tensors_of]
            found.append(Parts(layer, *cpu, None if sources is None else sources.cpu()))  # type: ignore[call-arg]
    return found


def _places(acts: Any, layer: str, gradient: Tensor | None) -> Tensor:
    tensor = torch.zeros_like(acts[layer]) if gradient is None else gradient
    return acts.replaced({layer: tensor}).places(layer)[0].detach()


def _cells(whole: Tensor, most: int) -> tuple[int, int]:
    rows, columns = whole.shape[1:]
    shrink = max(1.0, max(rows, columns) / most)
    return max(1, round(rows / shrink)), max(1, round(columns / shrink))


def _pooled(maps: Float[Tensor, "*more y x"], cells: tuple[int, int]) -> Float[Tensor, "*more rows columns"]:
    """Add up what lies in each cell; a place that two cells share is shared by area."""
    rows, columns = (_overlap(side, count).to(maps) for side, count in zip(maps.shape[-2:], cells, strict=True))
    return torch.einsum("ry,...yx,cx->...rc", rows, maps, columns)


def _areas(maps: Tensor, cells: tuple[int, int]) -> float:
    return float(maps.shape[-2] * maps.shape[-1]) / (cells[0] * cells[1])


def _overlap(places: int, cells: int) -> Float[Tensor, "cells places"]:
    """Return how much of each place lies in each cell."""
    edges = torch.arange(cells + 1) * places / cells
    first = torch.arange(places)
    return (torch.minimum(edges[1:, None], first + 1) - torch.maximum(edges[:-1, None], first)).clamp(min=0)


def _groups(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Split what cells hold into groups that each cell has some of, by non-negative factorisation."""
    from sklearn.decomposition import NMF

    rows = maps.relu().flatten(1).T.double().cpu().numpy()
    count = min(count, *rows.shape)
    if not rows.any():
        return maps.new_zeros(0, len(maps)), maps.new_zeros(0, *maps.shape[1:])
    # as many steps always, so that nothing is left to complain
    model = NMF(count, init="nndsvda", tol=0, max_iter=300, random_state=0)
    shares = model.fit_transform(rows)
    order = np.argsort(-shares.sum(0) * np.linalg.norm(model.components_, axis=1))
    directions = torch.from_numpy(model.components_[order].copy()).to(maps)
    return directions, torch.from_numpy(shares[:, order].T.copy()).to(maps).unflatten(1, maps.shape[1:])


def _effects(gradients: Tensor, directions: Tensor, shares: Tensor, size: torch.Size) -> Tensor:
    """Return what each group adds to each class: its share of every place, times the gradient there."""
    if not len(directions):
        return gradients.new_zeros(len(gradients), 0)
    wide = F.interpolate(shares[None], tuple(size), mode="nearest")[0]
    return torch.einsum("kcyx,gc,gyx->kg", gradients, directions, wide)


def _sources(acts: Any, before: str, layer: str, cells: tuple[int, int], most: int) -> Tensor:
    """Follow what each cell holds back to the layer before."""
    whole, held = acts.places(layer)[0], acts.places(before)[0].detach()
    grid = (_pooled(whole, cells) / _areas(whole, cells)).flatten(1)
    found = []
    for cell in range(grid.shape[1]):
        own = grid[:, cell].detach()
        loud = (grid[:, cell] * own).sum() / own.norm().clamp(min=1e-9)
        (gradient,) = torch.autograd.grad(loud, acts[before], retain_graph=True, allow_unused=True)
        found.append(_pooled((_places(acts, before, gradient) * held).sum(0), _cells(held, most)))
    return torch.stack(found)
