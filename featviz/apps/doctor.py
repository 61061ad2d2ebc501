"""The look before the first picture: what makes networks give only noise, and the flag that cures each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import featviz as fv

PICTURES = 64
"""How many photographs are looked at."""
NOISE = 8
"""How many beginnings of a render are looked at."""
RANGES: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...]]] = {
    "ImageNet's normalisation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "pixels from -1 to 1": (0.5, 0.5),
    "pixels from 0 to 1": (0.0, 1.0),
    "pixels from 0 to 255": (0.0, round(1 / 255, 6)),
    "pixels from 0 to 255 with ImageNet's mean taken away": ((0.485, 0.456, 0.406), round(1 / 255, 6)),
}
"""Input ranges in use, as mean and std of images in [0, 1]."""
TELLS = 1.05
"""How much more another range has to make the answers say, as a factor.

MobileNetV2 with BGR for RGB loses a factor of 1.14, with -1 to 1 for ImageNet's 1.12; what loses less hardly matters.
"""
FITS, FAR = 0.5, 3.0
"""Up to what mismatch a range fits batch norm's statistics, and by which factor a misfit is worse.

A right range has .07 on photographs and up to .4 on dead leaves; the nearest wrong one 3 to 13 times as much.
"""
NORMS = 3
"""How many of the first batch norms are asked: those behind depend on everything before."""
CHANNELS = (3, 1, 4, 2, 6, 12, 13)
SIZES = (224, 32, 299, 384, 64, 28, 96, 128, 160, 256, 448, 512)
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "gelu", "silu", "hardswish", "elu", "selu", "mish", "hardtanh")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        about: which check found it.
        what: in words.
        cure: the flags that cure it; empty where there is nothing to cure.
    """

    about: str
    what: str
    cure: str = ""

    def __str__(self) -> str:
        """Write a line."""
        return f"{'cure' if self.cure else 'ok':4}  {self.about:12} {self.what}" + (
            f": {self.cure}" if self.cure else ""
        )


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found; `str` lists it."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs a cure."""
        return not any(finding.cure for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """Go through the findings."""
        return iter(self.findings)

    def __str__(self) -> str:
        """Write a line for each."""
        return "\n".join(map(str, self.findings))


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
        _output,
        _input_range,
        _sizes,
        _activations,
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
                    cure += [_flags(mean, std)] if channels != network.channels else []
                    yield Finding("input", refused, " ".join(cure))
                    return
    yield Finding("input", refused, "give what it was trained on: --size, --mean and --std")


def _failure(network: fv.Network) -> Exception | None:
    try:
        _ = network.probed
    except Exception as error:  # whatever the module raises is what is to be told
        return error
    return None


def _output(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    """Look at what it puts out at the end."""
    if "" not in network.table:
        yield Finding(
            "output", "what it puts out is no map, tokens or vector; there are layers to address, but no logit:"
        )
        return
    noise = torch.rand(2, network.channels, *network.size, generator=torch.Generator().manual_seed(0))
    put = network.capture(noise, [""]).units("").detach()
    if not put.isfinite().all():
        yield Finding("output", "it puts out what is no number", "check its weights, and --mean and --std")
    elif put.ndim != 2:
        yield Finding("output", f"it puts out {' x '.join(map(str, put.shape[1:]))} for an image; there is no logit:")
    elif _are_shares(put):
        before = _before_softmax(network, put.shape[1])
        yield Finding("output", "it puts out probabilities, which hardly climb", f"for logit:N give {before}:N")
    elif network.classes and len(network.classes) != put.shape[1]:
        count = f"{len(network.classes)} class names for {put.shape[1]} outputs"
        yield Finding("output", count, "give classes= in output order")
    else:
        yield Finding("output", f"{put.shape[1]} logits" + ("" if network.classes else ", without names"))


def _are_shares(put: Tensor) -> bool:
    return bool(put.min() >= 0 and (put.sum(1) - 1).abs().max() < 1e-3)


def _before_softmax(network: fv.Network, classes: int) -> str:
    vectors = [name for name, layer in network.table.items() if name and layer.layout.kind == "vector"]
    scores = [name for name in vectors if network.table[name].channels == classes and not _is_softmax(network, name)]
    return scores[-1] if scores else "the layer before"


def _is_softmax(network: fv.Network, name: str) -> bool:
    return isinstance(dict(network.module.named_modules()).get(name), nn.Softmax | nn.LogSoftmax)


def _input_range(network: fv.Network, images: Tensor | None) -> Iterator[Finding]:
    """Compare what it is told to expect with everything else in use."""
    given = _flags(network.mean, network.std, network.order)
    suits: dict[str, tuple[float, str]] = {}
    if images is not None and "" in network.table and network.capture(images[:1], [""]).units("").ndim == 2:
        misfits: dict[str, float | None] = {}
        for flags, words, other in _candidates(network, orders=("RGB", "BGR")):
            suits[flags] = _said(other, images), words
            misfits[flags] = _mismatch(other, images)
        most = _misfit_at_most(misfits)
        likely = [flags for flags, misfit in misfits.items() if misfit is None or misfit <= most]
        best = max(likely, key=lambda flags: suits[flags][0])
        wrong = given not in likely or suits[best][0] > TELLS * suits[given][0]
        how = (
            "the answers to the photographs say" if given in likely else "the first batch norms and the photographs say"
        )
    else:
        how = "the first batch norms say"
        leaves = images if images is not None else dead_leaves(NOISE, network.channels, network.size)
        unknown = "nothing tells whether it is right" + ("; --photographs FOLDER might" if images is None else "")
        for flags, words, other in _candidates(network, orders=(network.order,)):
            found = _mismatch(other, leaves)
            if found is None:
                yield Finding("input range", unknown)
                return
            suits[flags] = found, words
        best = min(suits, key=lambda flags: suits[flags][0])
        if suits[best][0] > FITS:
            yield Finding("input range", unknown)
            return
        wrong = suits[given][0] > FITS / 2 and suits[given][0] > FAR * suits[best][0]
    if wrong:
        yield Finding("input range", f"{how} that it expects {suits[best][1]}", best)
    else:
        yield Finding("input range", f"{how} that it is right")


def _misfit_at_most(misfits: dict[str, float | None]) -> float:
    """Return up to what misfit a range is likely: a network can be sure of nonsense, which its batch norms give away.

    Where they fit no range, or there are none, every range is as likely.
    """
    least = min((misfit for misfit in misfits.values() if misfit is not None), default=math.inf)
    return max(FITS / 2, FAR * least) if least <= FITS else math.inf


def _candidates(network: fv.Network, orders: tuple[str, ...]) -> Iterator[tuple[str, str, fv.Network]]:
    """Go through the ranges in use, first the one that was given: its flags, its words, and the network told so."""
    ranges: list[tuple[str, tuple[float, ...], tuple[float, ...]]] = [("what it is told", network.mean, network.std)]
    for words, (mean, std) in RANGES.items():
        means = (mean,) * network.channels if isinstance(mean, float) else mean
        stds = (std,) * network.channels if isinstance(std, float) else std
        if len(means) == len(stds) == network.channels:
            ranges.append((words, means, stds))
    known = network.probed
    for words, mean, std in ranges:
        for order in (
            sorted(orders, key=lambda order: order != network.order) if network.channels == 3 else (network.order,)
        ):
            told = network.expecting(mean=mean, std=std, order=order, probed=known)
            yield _flags(mean, std, order), f"{words}, {order}", told


def _flags(mean: tuple[float, ...], std: tuple[float, ...], order: str = "RGB") -> str:
    numbers = [",".join(f"{number:g}" for number in values) for values in (mean, std)]
    return f"--mean {numbers[0]} --std {numbers[1]}" + (f" --order {order}" if order != "RGB" else "")


def _said(network: fv.Network, images: Tensor) -> float:
    """Return how much the answers say, in nats: each should be sure, and they should differ.

    Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, the logarithm of the inception score.
    """
    with torch.no_grad():
        put = network.capture(images, [""]).logits().float()
    shares = put if _are_shares(put) else put.softmax(1)
    surprise = [-(p * p.clamp(min=1e-9).log()).sum(-1) for p in (shares.mean(0), shares)]
    return (surprise[0] - surprise[1].mean()).item()


def _mismatch(network: fv.Network, images: Tensor) -> float | None:
    """Return how far what reaches the first batch norms is from the means and deviations that these have kept."""
    norms = {name: part for name, part in network.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    asked = [name for name in network.table if name in norms and norms[name].affine][:NORMS]
    if not asked:
        return None
    with torch.no_grad():
        acts = network.capture(images, asked)
    found = []
    for name in asked:
        norm, units = norms[name], acts.units(name)
        used = norm.weight.abs() > 1e-3
        if not used.any():
            continue
        units = ((units - norm.bias[:, None, None]) / norm.weight[:, None, None])[:, used].movedim(1, 0).flatten(1)
        found.append((units.mean(1).square() + units.std(1).clamp(min=1e-3).log().square()).mean().item())
    misfit = sum(found) / len(found) if found else math.nan
    return misfit if math.isfinite(misfit) else None


def dead_leaves(n: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw discs of all sizes over one another, which have the statistics of photographs.

    Source: Lee, Mumford and Huang 2001, "Occlusion models for natural images", Int. J. of Computer Vision 41.
    """
    generator = torch.Generator().manual_seed(seed)

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    y, x = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    images = torch.full((n, channels, *size), 0.5)
    for image in images:
        for _ in range(150):
            radius = 0.02 * min(size) * (1 - 0.998 * chance(1)).pow(-0.5)
            down, along = (1.4 * chance(2) - 0.2) * torch.tensor(size)
            light = 0.45 + 0.22 * torch.randn(1, generator=generator)
            color = (light + 0.08 * torch.randn(channels, generator=generator)).clamp(0, 1)
            image[:, (y - down).square() + (x - along).square() < radius.square()] = color[:, None]
    return images


def _sizes(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    height, width = network.size
    if network.fixed_size:
        yield Finding("size", f"takes {height} x {width} px only; other pictures are seen at that size")
    else:
        yield Finding("size", f"takes squares from {network.smallest} px")


def _activations(network: fv.Network, _images: Tensor | None) -> Iterator[Finding]:
    """Count the activations that overwrite their input, and those that no layer's name reaches."""
    in_place = sum(1 for part in network.module.modules() if getattr(part, "inplace", False) is True)
    if in_place:
        yield Finding("activations", f"{in_place} overwrite their input; layers are captured before they do")
    with torch.no_grad(), _Counting(network.module) as counting:
        network.capture(torch.full((1, network.channels, *network.size), 0.5), list(network.table))
    if counting.calls:
        names = " and ".join(sorted(counting.calls))
        yield Finding("activations", f"it calls {names} as a function, which no layer names; address the block around")


class _Counting(TorchFunctionMode):
    """Notes which activations are called as functions, not by a module of their own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.calls: set[str] = set()
        self._inside = 0
        kinds = tuple(
            kind
            for kind in vars(nn).values()
            if isinstance(kind, type) and kind.__name__.lower() in {name.replace("_", "") for name in ACTIVATIONS}
        )
        self._handles = [
            handle
            for part in module.modules()
            if isinstance(part, kinds)
            for handle in (part.register_forward_pre_hook(self._enter), part.register_forward_hook(self._leave))
        ]

    def _enter(self, *_: object) -> None:
        self._inside += 1

    def _leave(self, *_: object) -> None:
        self._inside -= 1

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        if name in ACTIVATIONS and not self._inside:
            self.calls.add(name)
        return func(*args, **(kwargs or {}))


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
