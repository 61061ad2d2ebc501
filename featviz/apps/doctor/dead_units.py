"""Find units that are inactive on the initial noise or on all photographs, and so have no gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import featviz as fv
from featviz.apps.doctor.findings import Finding

NOISE_IMAGES = 8
"""Number of images of initial noise."""
STRONG_STD = 0.25
"""Standard deviation of stronger initial noise, ten times the default of `Fourier`."""
IMAGES_AT_ONCE = 8
"""Number of images per batch."""
NAMED_LAYERS = 3
"""Layers that a finding names."""


def check_dead_units(network: fv.Network, images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Report units that are inactive on the initial noise, and units that are inactive on all photographs."""
    noise = _initial_noise(network, fv.param.Fourier())
    inactive = _inactive_channels(network, noise)
    dead_layers = [name for name, channels in inactive.items() if channels.all()]
    if dead_layers:
        yield _dead_layers(network, dead_layers, noise)
    elif not any(channels.any() for channels in inactive.values()):
        yield Finding("dead units", "none on the initial noise")
    else:
        worst = max(inactive, key=lambda name: _share(inactive[name]))
        share = f"up to {_share(inactive[worst]):.0%} of a layer's channels ({worst})"
        text = f"{share} are inactive on the initial noise; a render redirects gradients to them"
        yield Finding("dead units", text)
    if images is not None:
        counts = {name: int(channels.sum()) for name, channels in _inactive_channels(network, images).items()}
        worst = max(counts, key=lambda name: counts[name], default="")
        if counts.get(worst):
            text = (
                f"{counts[worst]} channels of {worst} never activate on these photographs; their images will be noise"
            )
            yield Finding("dead units", text, note=True)


def _dead_layers(network: fv.Network, layers: list[str], noise: Float[Tensor, "n c h w"]) -> Finding:
    """Report layers that are all inactive on the initial noise, and whether stronger noise activates them."""
    names = ", ".join(layers[:NAMED_LAYERS]) + (", …" if len(layers) > NAMED_LAYERS else "")
    strong = _inactive_channels(network, _initial_noise(network, fv.param.Fourier(std=STRONG_STD)))
    if not all(name in strong and strong[name].all() for name in layers):
        fix = f'start from stronger noise, --param "Fourier(std={STRONG_STD})"'
        return Finding("dead units", f"all channels of {names} are inactive on the initial noise", fix)
    text = f"all channels of {names} are inactive on initial noise of any strength"
    if _output_differs(network, noise):  # such as a residual branch whose last batch norm is initialised to zero
        return Finding("dead units", f"{text}, but the last layer responds to it", note=True)
    return Finding("dead units", text, "check the weights, and --mean and --std")


def _initial_noise(network: fv.Network, spatial: fv.param.Fourier) -> Float[Tensor, "n c h w"]:
    """Return the images from which renders with this param start."""
    param = fv.param.Image(network.size, batch=NOISE_IMAGES, spatial=spatial)
    return fv.render(network, fv.objectives.TotalVariation(), param=param, steps=0, robustness_views=0).images


def _output_differs(network: fv.Network, images: Float[Tensor, "n c h w"]) -> bool:
    """Return whether the output of the last layer differs between images."""
    last = list(network.table)[-1]
    with torch.no_grad():
        output = network.capture(images, [last]).channels_first(last)
    return bool((output != output[:1]).any())


def _share(channels: Bool[Tensor, " channels"]) -> float:
    return channels.float().mean().item()


def _inactive_channels(network: fv.Network, images: Float[Tensor, "n c h w"]) -> dict[str, Bool[Tensor, " channels"]]:
    """Return, for each rectified feature map, which channels are 0 at every position in all images.

    A feature map counts as rectified if its smallest value is exactly 0.
    """
    maps = [name for name, layer in network.table.items() if name and layer.layout.kind == "map"]
    least: dict[str, Tensor] = {}
    most: dict[str, Tensor] = {}
    for batch in images.split(IMAGES_AT_ONCE):
        with torch.no_grad():
            acts = network.capture(batch, maps)
        for name in maps:
            low, high = acts.channels_first(name).movedim(1, 0).flatten(1).aminmax(dim=1)
            least[name] = torch.minimum(low, least.get(name, low))
            most[name] = torch.maximum(high, most.get(name, high))
    return {name: most[name] == 0 for name in least if least[name].min() == 0}
