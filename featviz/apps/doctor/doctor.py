"""The look before the first picture: what makes networks give only noise, and the flag that cures each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.activations import activations
from featviz.apps.doctor.findings import Diagnosis, Finding
from featviz.apps.doctor.input_range import flags, input_range
from featviz.apps.doctor.output import output

PICTURES = 64
"""How many photographs are looked at."""
NOISE = 8
"""How many beginnings of a render are looked at."""
CHANNELS = (3, 1, 4, 2, 6, 12, 13)
SIZES = (224, 32, 299, 384, 64, 28, 96, 128, 160, 256, 448, 512)


def doctor(network: fv.Network, *, photographs: str | Path | None = None) -> Diagnosis:
    """Examine a network before anything is rendered: its input, its layers, its output.

    Whether the input range is right is told by the statistics that the first batch norms have kept, if there are, and
    by the answers to the photographs, if there are: a wrong range makes them vaguer or all alike.

    Args:
        network: as it would be given to `fv.render`.
        photographs: a folder of images of the kind that it was trained on; a few dozen are enough.

    Raises:
        OutputError: the folder is missing or holds no image.
    """
    wrong = list(_input_shape(network))
    if wrong:
        return Diagnosis(tuple(wrong))
    images = None
    if photographs is not None:
        some = islice(fv.photographs(photographs, size=network.size, channels=network.channels), PICTURES)
        images = torch.stack([image for _, image in some])
    checks: tuple[Callable[[fv.Network, Tensor | None], Iterator[Finding]], ...] = (
        output,
        input_range,
        _sizes,
        activations,
        _starts,
    )
    return Diagnosis(tuple(finding for check in checks for finding in check(network, images)))


def _input_shape(network: fv.Network) -> Iterator[Finding]:
    """Say which channels, size or layout the module takes, where it does not take what it is said to expect."""
    error = _failure(network)
    if error is None:
        return
    given = f"{network.channels} channels of {network.size[0]} x {network.size[1]} px"
    refused = f"it does not take {given} ({str(error).strip().splitlines()[0][:160]})"
    for layout in ("NCHW", "NHWC"):
        for channels in dict.fromkeys((network.channels, *CHANNELS)):
            for size in dict.fromkeys((network.size, *((side, side) for side in SIZES))):
                mean, std = network.mean, network.std
                if channels != network.channels:
                    mean, std = (0.5,) * channels, (0.5,) * channels
                if _failure(network.expecting(size=size, mean=mean, std=std, layout=layout)) is None:
                    cure = [f"--layout {layout}"] if layout != network.layout else []
                    cure += [f"--size {size[0]}"] if size != network.size else []
                    cure += [flags(mean, std)] if channels != network.channels else []
                    yield Finding("input", refused, " ".join(cure))
                    return
    yield Finding("input", refused, "give what it was trained on: --size, --mean and --std")


def _failure(network: fv.Network) -> Exception | None:
    try:
        _ = network.probed
    except Exception as error:  # whatever the module raises is what is to be told
        return error
    return None


def _sizes(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    height, width = network.size
    if network.fixed_size:
        yield Finding("size", f"takes {height} x {width} px only; other pictures are seen at that size")
    else:
        yield Finding("size", f"takes squares from {network.smallest} px")


def _starts(network: fv.Network, images: Tensor | None) -> Iterator[Finding]:
    """Say where units are off when a render begins, and which are off in every photograph."""
    noise = fv.render(
        network, fv.objectives.TotalVariation(), param=fv.param.image(network.size, batch=NOISE), steps=0, trials=0
    ).images
    off = _off(network, noise)
    silent = [name for name, units in off.items() if units.all()]
    if silent:
        some = ", ".join(silent[:3]) + (", …" if len(silent) > 3 else "")
        yield Finding("starts", f"nothing in {some} answers to noise", '--param "Fourier(sd=0.25)", a louder start')
    share = max((units.float().mean().item() for units in off.values()), default=0.0)
    if not silent:
        worst = max(off, key=lambda name: off[name].float().mean().item(), default="")
        where = f"up to {share:.0%} of a layer ({worst})" if share else "no unit"
        yield Finding("starts", f"{where} is off when a render begins" + ("; such units are woken" if share else ""))
    if images is not None:
        dead = {name: int(units.sum()) for name, units in _off(network, images).items() if units.any()}
        if dead:
            worst = max(dead, key=lambda name: dead[name])
            yield Finding(
                "starts", f"{dead[worst]} channels of {worst} are off in every photograph: expect noise of them"
            )


def _off(network: fv.Network, images: Tensor) -> dict[str, Tensor]:
    """Return, for every rectified layer of maps, which channels are 0 everywhere in all images."""
    maps = [name for name, layer in network.table.items() if name and layer.layout.kind == "map"]
    off: dict[str, Tensor] = {}
    with torch.no_grad():
        acts = network.capture(images, maps)
    for name in maps:
        units = acts.units(name).movedim(1, 0).flatten(1)
        if units.min() >= 0 and (units == 0).any():
            off[name] = (units == 0).all(1)
    return off
