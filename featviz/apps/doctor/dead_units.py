"""Where units are off, so that there is nothing to climb."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding

NOISE = 8
"""How many beginnings of a render are looked at."""
LOUD = 0.25
"""The deviation of a louder start, ten times the usual one."""
BATCH = 8
"""Images seen at once."""


def starts(network: fv.Network, images: Tensor | None) -> Iterator[Finding]:
    """Say where units are off when a render begins, and which are off in every photograph."""
    noise = _noise(network, fv.param.Fourier())
    off = _off(network, noise)
    silent = [name for name, units in off.items() if units.all()]
    some = ", ".join(silent[:3]) + (", …" if len(silent) > 3 else "")
    if silent:
        louder = _off(network, _noise(network, fv.param.Fourier(std=LOUD)))
        if not all(name in louder and louder[name].all() for name in silent):
            cure = f'--param "Fourier(std={LOUD})", a louder start'
            yield Finding("starts", f"nothing in {some} answers to noise", cure)
        elif _answers(network, noise):  # as where a branch begins its training with weights of 0
            told = f"nothing in {some} answers to noise, quiet or loud, but the network's last layer does"
            yield Finding("starts", told, sure=False)
        else:
            cure = "check its weights, and --mean and --std"
            yield Finding("starts", f"nothing in {some} answers to noise, quiet or loud", cure)
    else:
        worst = max(off, key=lambda name: _share(off[name]), default=None)
        if worst is None or not off[worst].any():
            yield Finding("starts", "no unit is off when a render begins")
        else:
            share = f"up to {_share(off[worst]):.0%} of a layer ({worst})"
            yield Finding("starts", f"{share} is off when a render begins; such units are woken")
    if images is not None:
        dead = {name: int(units.sum()) for name, units in _off(network, images).items() if units.any()}
        if dead:
            worst = max(dead, key=lambda name: dead[name])
            yield Finding(
                "starts", f"{dead[worst]} channels of {worst} are off in every photograph: expect noise of them"
            )


def _noise(network: fv.Network, spatial: fv.param.Fourier) -> Tensor:
    """Draw what renders begin with."""
    held = fv.param.Image(network.size, batch=NOISE, spatial=spatial)
    return fv.render(network, fv.objectives.TotalVariation(), param=held, steps=0, robustness_views=0).images


def _answers(network: fv.Network, images: Tensor) -> bool:
    """Say whether the layer that ends last tells images apart."""
    last = list(network.table)[-1]
    with torch.no_grad():
        put = network.capture(images, [last]).channels_first(last)
    return bool((put != put[:1]).any())


def _share(units: Tensor) -> float:
    return units.float().mean().item()


def _off(network: fv.Network, images: Tensor) -> dict[str, Tensor]:
    """Return, for every rectified layer of maps, which channels are 0 everywhere in all images."""
    maps = [name for name, layer in network.table.items() if name and layer.layout.kind == "map"]
    least: dict[str, Tensor] = {}
    most: dict[str, Tensor] = {}
    for batch in images.split(BATCH):
        with torch.no_grad():
            acts = network.capture(batch, maps)
        for name in maps:
            low, high = acts.channels_first(name).movedim(1, 0).flatten(1).aminmax(dim=1)
            least[name] = torch.minimum(low, least.get(name, low))
            most[name] = torch.maximum(high, most.get(name, high))
    return {name: most[name] == 0 for name in maps if least[name].min() == 0}
